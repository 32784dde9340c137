"""An agent that does what lines of its stdin say, and tells what came of it: the other side of the client's tests."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from typing import Any

from session_fabric import AgentRun, Fabric, Run, RunFailed
from session_fabric.words.errors import ToolFailed


async def approve(run: Run, order: dict[str, Any]) -> Any:
    approval = await run.approve("Delete 3 files?", to=order.get("to"))
    return {"approved": approval.approved, "by": approval.by}


async def tool(run: Run, order: dict[str, Any]) -> Any:
    try:
        return await run.client_tool(order["tool"], order.get("args", {}), to=order.get("to"))
    except ToolFailed as failed:
        return {"failed": failed.error}


async def listen(run: Run, order: dict[str, Any]) -> Any:
    async for steer in run.steering():
        return steer.text


async def deaf(run: Run, order: dict[str, Any]) -> Any:
    await asyncio.Event().wait()


# Who waits in a session, for the orders to go on.
GATES: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))


async def follow_script(run: AgentRun) -> None:
    """Do what the lines of the user's message say: the agent of pool `script`."""
    for line in run.input.text.splitlines():
        match line.split(" ", 2):
            case ["say", *rest]:
                for word in " ".join(rest).split():
                    await run.text(f"{word} ")
            case ["think", *rest]:
                await run.reasoning(" ".join(rest))
            case ["wait"]:
                await GATES[run.session.name].acquire()
            case ["look", name, args]:
                call = await run.tool(name, json.loads(args))
                await call.result(f"looked for {args}")
            case ["tool", name, args]:
                try:
                    await run.text(f"It is {json.dumps(await run.client_tool(name, json.loads(args)))}.")
                except ToolFailed as failed:
                    await run.text(f"It failed: {failed.error}.")
            case ["approve", *title]:
                approval = await run.approve(" ".join(title))
                await run.text(f"{'Granted' if approval.approved else 'Denied'} by {approval.by}.")
            case ["choose", *options]:
                answer = await run.ask("Which?", options=" ".join(options).split())
                await run.text(f"So {answer.body}.")
            case ["custom", name]:
                await run.emit({"type": "CUSTOM", "name": name, "value": {"n": 1}})
            case ["fail", *rest]:
                raise RunFailed(" ".join(rest))
            case _:
                raise ValueError(f"no such line: {line}")


DO = {"approve": approve, "tool": tool, "listen": listen, "deaf": deaf}


async def obey(fabric: Fabric, order: dict[str, Any]) -> None:
    session = fabric.session(order["session"])
    await session.create()
    said: Any = "stopped"
    async with session.run(order["run"]) as run:
        said = await DO[order["do"]](run, order)
    print(json.dumps({"run": order["run"], "said": said}), flush=True)


async def main(url: str) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Fabric.connect(url, participant="agent:script") as fabric, asyncio.TaskGroup() as group:
        worker = fabric.agent(pool="script", concurrency=20)(follow_script)
        tasks = [group.create_task(worker.serve())]
        print(json.dumps({"ready": True}), flush=True)
        while line := await lines.readline():
            order = json.loads(line)
            if order["do"] == "release":
                GATES[order["session"]].release()
            else:
                tasks.append(group.create_task(obey(fabric, order)))
        worker.stop()
        for task in tasks:
            task.cancel()


asyncio.run(main(sys.argv[1]))
