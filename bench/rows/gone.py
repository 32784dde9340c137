"""Processes that die and devices that vanish: how long until everybody who looks on knows."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.rules.leases import SURE_S

from bench.agents import Agents
from bench.browser import Browser, Browsers
from bench.gateway import GatewayProcess
from bench.plan import Plan
from bench.report import Row, middle, percentile
from tests.support.link import Link, link_to

# Sockets that look on at each session; the last of them to be told is what counts.
_BROWSERS: Final = 20
# Agents at a time that are cut off behind links of their own.
_AT_ONCE: Final = 5
_WRITES_S: Final = 0.3
# Past this nobody will be told.
_PATIENCE_S: Final = 30.0


class House(NamedTuple):
    """A broker that tells of connections' ends, one gateway process, and browsers at it."""

    nats: str
    nats_port: int
    gateway: GatewayProcess
    browsers: Browsers
    looking_on: Sequence[Browser]


def measure(plan: Plan) -> list[Row]:
    return asyncio.run(_measure(plan))


async def _measure(plan: Plan) -> list[Row]:
    async with _house() as house:
        await asyncio.sleep(SURE_S + 1)  # a gateway that has just come up does not judge others' leases yet
        return [
            _row("an agent killed with -9 until every browser knows", await _killed(house, plan.scaled(100, 20)), 0.5),
            _row("an agent's machine vanished until every browser knows", await _cut(house, plan.scaled(100, 20)), 3.0),
            _row("a browser vanished until the others know", await _browsers(house, plan.scaled(100, 10)), 15.0),
        ]


@asynccontextmanager
async def _house() -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sf-bench-")))
        broker = await stack.enter_async_context(await EmbeddedBroker.start(root / "broker"))
        gateway = stack.enter_context(GatewayProcess(broker.url, root / "gateway.log"))
        browsers = await stack.enter_async_context(Browsers())
        looking_on = await browsers.several(gateway.url, _BROWSERS)
        yield House(broker.url, int(broker.url.rpartition(":")[2]), gateway, browsers, looking_on)


class Took(NamedTuple):
    """Seconds until the last one was told, and what was never told."""

    seconds: list[float]
    faults: list[str]


def _row(name: str, took: Took, bar_s: float, notes: str = "") -> Row:
    seconds = took.seconds or [_PATIENCE_S]
    p99 = percentile(seconds, 0.99)
    return Row(
        f"{name}, p99",
        f"{p99:.2f} s",
        "",
        p99,
        bar_s,
        "less",
        "s",
        notes=f"{len(took.seconds)} times; p50 {middle(seconds):.2f} s, worst {max(seconds):.2f} s",
        details={"seconds": took.seconds},
        faults=took.faults,
    )


async def _killed(house: House, times: int) -> Took:
    """The kernel closes the connection of one that is killed, and the broker tells."""
    took = Took([], [])
    with Agents() as agents:
        for number in range(times):
            while len(agents) < 2:  # one that is killed, and one that goes on with what it leaves
                await agents.start(house.nats)
            session = f"killed-{number}"
            holder = await _begun(house, session)
            await asyncio.sleep(random.uniform(0.1, _WRITES_S))
            await _all_told(house, session, took, partial(agents.kill, holder))
    return took


async def _cut(house: House, times: int) -> Took:
    """From one moment on nothing passes between an agent and the broker, whose connection stays open and silent."""
    took = Took([], [])
    for first in range(0, times, _AT_ONCE):
        async with AsyncExitStack() as stack:
            agents = stack.enter_context(Agents())
            links: dict[str, Link] = {}
            for _ in range(_AT_ONCE):
                link = await stack.enter_async_context(link_to(house.nats_port))
                links[await agents.start(f"nats://127.0.0.1:{link.port}")] = link
            sessions = {f"cut-{number}": "" for number in range(first, first + _AT_ONCE)}
            for session in sessions:
                sessions[session] = await _begun(house, session)

            async def vanish(session: str, link: Link) -> None:
                await asyncio.sleep(random.uniform(_WRITES_S, 2.0))  # at any time of the lease
                await _all_told(house, session, took, link.swallow)

            async with asyncio.TaskGroup() as group:
                for session, holder in sessions.items():
                    group.create_task(vanish(session, links[holder]))
    return took


async def _browsers(house: House, times: int) -> Took:
    """From one moment on nothing passes between a browser and the gateway."""
    took = Took([], [])
    async with AsyncExitStack() as stack:
        browsers = await stack.enter_async_context(Browsers())

        async def vanish(number: int) -> None:
            session = f"left-{number}"
            link = await stack.enter_async_context(link_to(house.gateway.port))
            await asyncio.gather(*(browser.open(session) for browser in house.looking_on))
            browser = await browsers.start(link.url, "user:ada", f"ada-{number}")
            joined = house.looking_on[-1].told(session, lambda event: event["type"] == "presence.joined")
            await browser.open(session, presence={})
            await joined
            await asyncio.sleep(random.uniform(0, 8.0))  # at any time between two pings
            await _all_told(house, session, took, link.swallow, "presence.left")

        async with asyncio.TaskGroup() as group:
            for number in range(times):
                group.create_task(vanish(number))
    return took


async def _begun(house: House, session: str) -> str:
    """Open a session in every browser and have a user ask something; return which process answers, once it does."""
    asking = house.looking_on[0]
    await asyncio.gather(*(browser.open(session) for browser in house.looking_on))
    begun = asking.told(session, lambda event: event["type"] == "RUN_STARTED")
    written = asking.told(session, lambda event: event["type"] == "TEXT_MESSAGE_CONTENT")
    body = {"type": "message.user", "message": {"id": "q1", "role": "user", "content": "count"}}
    await asking.ask("append", session=session, event={"id": "q1", "body": body})
    async with asyncio.timeout(_PATIENCE_S):
        await written
        return str((await begun).event["body"]["holder"])


async def _all_told(
    house: House, session: str, took: Took, harm: Callable[[], None], what: str = "run.orphaned"
) -> None:
    """Do harm, and note how long it takes until the last browser is told."""
    told = [browser.told(session, lambda event: event["type"] == what) for browser in house.looking_on]
    at = time.perf_counter()
    harm()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            took.seconds.append(max([(await each).at for each in told]) - at)
    except TimeoutError:
        knew = sum(each.done() and not each.cancelled() for each in told)
        took.faults.append(f"{session}: {knew} of {len(told)} browsers were told within {_PATIENCE_S:g} s")
