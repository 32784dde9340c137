"""An agent that does what it is told, as a process of its own: `python -m tests.dialects.agent URL TENANT`.

The first word of a message says what: `echo …`, `hold` (says half, the rest once the session has an `app.go`),
`think` (`think slowly` waits for that behind its thoughts), `tool`, `client`, `quiet` (a client tool, nothing more),
`both` (two client tools at once), `approve` (`approve role:operator` asks others), `confirm` (asks, says half, and
holds), `choose`, `custom`, `state`, `named` (says which tools the client has named), `retry` (fails the first time),
`steered`, `fail`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from session_fabric import AgentRun, Fabric
from session_fabric.run import RunFailed

_tried: set[str] = set()


async def _echo(run: AgentRun) -> None:
    for word in run.input.text.split()[1:]:
        await run.text(f"{word} ")


async def _hold(run: AgentRun) -> None:
    async with run.message() as message:
        await message.text("Half \U0001f642 ")
        await run.stored()
        await _gone_on(run)
        await message.text("and half.")


async def _gone_on(run: AgentRun) -> None:
    """Wait until somebody says so."""
    async for event in run.session.follow(run.input.offset):
        if event.type == "app.go":
            return


async def _steered(run: AgentRun) -> None:
    await run.text("First. ")
    async for steer in run.steering():
        await run.text(f"Then {steer.text}.")
        return


async def _think(run: AgentRun) -> None:
    await run.reasoning("Let me think. ")
    await run.reasoning("Yes.")
    if "slowly" in run.input.text:
        await run.stored()
        await _gone_on(run)
    await run.text("Forty-two.")


async def _tool(run: AgentRun) -> None:
    async with run.message() as message:
        await message.text("Looking. ")
    call = await run.tool("look", {"where": "here"})
    await call.result({"found": 3})
    async with run.message() as message:
        await message.text("Found three.")


async def _client(run: AgentRun) -> None:
    await run.text("Where are you? ")
    where = await run.client_tool("getLocation", {"precise": True})
    await run.text(f"You are in {where['city']}.")


async def _quiet(run: AgentRun) -> None:
    await run.client_tool("getLocation", {})


async def _both(run: AgentRun) -> None:
    one, two = await asyncio.gather(
        run.client_tool("first", {}, id=f"{run.id}.one"), run.client_tool("second", {}, id=f"{run.id}.two")
    )
    async with run.message() as message:
        await message.text(f"{one} and {two}")


async def _approve(run: AgentRun) -> None:
    approval = await run.approve("Refund?", text="20 euros", to=run.input.text.partition(" ")[2] or None)
    why = f", since {approval.comment}" if approval.comment else ""
    await run.text(f"{'Refunded' if approval.approved else 'Refused'}{why}.")


async def _confirm(run: AgentRun) -> None:
    await run.text("May I? ")
    await run.approve("Sure?")
    await run.text("Thanks ")
    await run.stored()
    await _gone_on(run)
    await run.text("a lot.")


async def _choose(run: AgentRun) -> None:
    answer = await run.ask("Which size?", options=["S", "M"])
    await run.text(f"Size {answer.body}.")


async def _custom(run: AgentRun) -> None:
    await run.emit({"type": "CUSTOM", "name": "progress", "value": {"done": 1}})
    await run.text("Done.")


async def _state(run: AgentRun) -> None:
    await run.emit({"type": "STATE_SNAPSHOT", "snapshot": {"steps": ["one"]}})
    await run.emit({"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/steps/1", "value": "two"}]})
    await run.text("Planned.")


async def _named(run: AgentRun) -> None:
    tools = run.input.event.body.get("input", {}).get("tools", [])
    await run.text(",".join(tool["name"] for tool in tools))


async def _retry(run: AgentRun) -> None:
    if run.id not in _tried:
        _tried.add(run.id)
        await run.text("Wrong.")
        await run.stored()
        raise ValueError("the first time")
    await run.text("Right.")


async def _fail(run: AgentRun) -> None:
    await run.text("Oh ")
    raise RunFailed("The model is down.")


_DOES: Final[dict[str, Callable[[AgentRun], Awaitable[None]]]] = {
    "echo": _echo,
    "hold": _hold,
    "steered": _steered,
    "think": _think,
    "tool": _tool,
    "client": _client,
    "quiet": _quiet,
    "both": _both,
    "approve": _approve,
    "confirm": _confirm,
    "choose": _choose,
    "custom": _custom,
    "state": _state,
    "named": _named,
    "retry": _retry,
    "fail": _fail,
}


async def main(url: str, tenant: str) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="agent:writer") as fabric:

        @fabric.agent(concurrency=32, retries=1)
        async def does(run: AgentRun) -> None:
            await _DOES.get(run.input.text.partition(" ")[0], _echo)(run)

        await fabric.watch_over()
        print("ready", flush=True)
        await fabric.serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
