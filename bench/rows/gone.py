"""Processes that die and devices that vanish: how long until everybody who looks on knows."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

from session_fabric.rules.leases import SURE_S

from bench.agents import Agents
from bench.browser import Browser, Browsers, Frame
from bench.gateway import GatewayProcess
from bench.house import own_gateway
from bench.plan import Plan
from bench.report import Row, middle, percentile
from tests.support.link import Link, link_to

# Sockets that look on at each session; the last of them to be told is what counts.
_BROWSERS: Final = 20
# Where there are many sessions at once: what the browsers read would be most of the load.
_FEW: Final = 4
# Agents at a time that are cut off behind links of their own.
_AT_ONCE: Final = 10
_WRITES_S: Final = 0.3
# How often a gateway looks after a browser that is silent: they vanish at any time within it.
_PINGED_S: Final = 8.0
# Past this nobody will be told.
_PATIENCE_S: Final = 30.0


class House(NamedTuple):
    """A broker that tells of connections' ends, one gateway process, and browsers at it."""

    nats: str
    nats_port: int
    broker_pid: int
    gateway: GatewayProcess
    browsers: Browsers
    looking_on: Sequence[Browser]


def measure(plan: Plan) -> list[Row]:
    return asyncio.run(_measure(plan))


async def _measure(plan: Plan) -> list[Row]:
    async with house() as ours:
        await asyncio.sleep(SURE_S + 1)  # a gateway that has just come up does not judge others' leases yet
        measured = (
            killed(ours, plan.scaled(100, 20)),
            _killed_with_many(ours, plan.scaled(10, 10), plan.scaled(50)),
            cut(ours, plan.scaled(100, 20)),
            _browsers(ours, plan.scaled(100, 10), 1.0 if plan.quick else _PINGED_S),
        )
        # One after another: what one waits for is the other's load.
        one, many, gone, browsers = (
            await asyncio.gather(*measured) if plan.quick else [await measuring for measuring in measured]
        )
    return [
        _row("an agent killed with -9 until every browser knows", one, 0.5),
        _row(f"  with {plan.scaled(50)} runs in as many sessions", many, None),
        _row("an agent's machine vanished until every browser knows", gone, 3.0),
        _row("a browser vanished until the others know", browsers, 15.0),
    ]


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        broker, gateway = await stack.enter_async_context(own_gateway())
        browsers = await stack.enter_async_context(Browsers())
        looking_on = await browsers.several(gateway.url, _BROWSERS)
        port = int(broker.url.rpartition(":")[2])
        yield House(broker.url, port, broker.pid, gateway, browsers, looking_on)


class Took(NamedTuple):
    """Seconds until the last one was told what had become of it, and what was never told; `first`: seconds until the
    last one was told anything, an agent's absence too."""

    seconds: list[float]
    faults: list[str]
    first: list[float]


def _row(name: str, took: Took, bar_s: float | None) -> Row:
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


async def killed(house: House, times: int) -> Took:
    """The kernel closes the connection of one that is killed, and the broker tells."""
    took = Took([], [], [])
    with Agents() as agents:
        for number in range(times):
            while len(agents) < 2:  # one that is killed, and one that goes on with what it leaves
                await agents.start(house.nats, pool="killed")
            session = f"killed-{number}"
            holder = await _begun(house.looking_on, session, "killed")
            await asyncio.sleep(random.uniform(0.1, _WRITES_S))
            await _all_told(house.looking_on, [session], took, partial(agents.kill, holder))
    return took


async def _killed_with_many(house: House, times: int, runs: int) -> Took:
    """A process that answers in many sessions dies, and everybody in each of them is to be told."""
    took = Took([], [], [])
    for time_ in range(times):
        with Agents() as agents:
            pool = f"many-{time_}"
            holder = await agents.start(house.nats, pool=pool, concurrency=runs)
            sessions = [f"{pool}-{number}" for number in range(runs)]
            looking_on = house.looking_on[:_FEW]
            await asyncio.gather(*(_begun(looking_on, session, pool) for session in sessions))
            await agents.start(house.nats, pool=pool, concurrency=runs)
            await asyncio.sleep(random.uniform(_WRITES_S, 1.0))
            await _all_told(looking_on, sessions, took, partial(agents.kill, holder))
    return took


async def cut(house: House, times: int) -> Took:
    """From one moment on nothing passes between an agent and the broker, whose connection stays open and silent."""
    took = Took([], [], [])
    for first in range(0, times, at_once := min(times, _AT_ONCE)):
        async with AsyncExitStack() as stack:
            agents = stack.enter_context(Agents())
            links: dict[str, Link] = {}
            for _ in range(at_once):
                link = await stack.enter_async_context(link_to(house.nats_port))
                links[await agents.start(f"nats://127.0.0.1:{link.port}", pool="cut")] = link
            sessions = {f"cut-{number}": "" for number in range(first, first + at_once)}
            for session in sessions:
                sessions[session] = await _begun(house.looking_on, session, "cut")

            async def vanish(session: str, link: Link) -> None:
                await asyncio.sleep(random.uniform(_WRITES_S, 2.0))  # at any time of the lease
                await _all_told(house.looking_on, [session], took, link.swallow)

            async with asyncio.TaskGroup() as group:
                for session, holder in sessions.items():
                    group.create_task(vanish(session, links[holder]))
    return took


async def _browsers(house: House, times: int, within_s: float) -> Took:
    """From one moment on nothing passes between a browser and the gateway."""
    took = Took([], [], [])
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
            await asyncio.sleep(random.uniform(0, within_s))
            await _all_told(house.looking_on, [session], took, link.swallow, "presence.left")

        async with asyncio.TaskGroup() as group:
            for number in range(times):
                group.create_task(vanish(number))
    return took


async def _begun(looking_on: Sequence[Browser], session: str, pool: str) -> str:
    """Open a session in every browser and have a user ask something; return which process answers, once it does."""
    asking = looking_on[0]
    await asyncio.gather(*(browser.open(session) for browser in looking_on))
    begun = asking.told(session, lambda event: event["type"] == "RUN_STARTED")
    written = asking.told(session, lambda event: event["type"] == "TEXT_MESSAGE_CONTENT")
    await have_count(asking, session, pool)
    async with asyncio.timeout(_PATIENCE_S):
        await written
        return str((await begun).event["body"]["holder"])


async def have_count(asking: Browser, session: str, pool: str) -> None:
    """Ask an agent of a pool to count."""
    body = {"type": "message.user", "message": {"id": "q1", "role": "user", "content": "count"}, "pool": pool}
    await asking.ask("append", session=session, event={"id": "q1", "body": body})


async def _all_told(
    looking_on: Sequence[Browser],
    sessions: Sequence[str],
    took: Took,
    harm: Callable[[], None],
    what: str = "run.orphaned",
) -> None:
    """Do harm, and note for each session how long it takes until the last browser is told."""
    told, first = (
        {session: [browser.told(session, partial(_is, types)) for browser in looking_on] for session in sessions}
        for types in ((what,), (what, "agent"))
    )
    at = time.perf_counter()
    harm()
    await asyncio.wait([each for heard in told.values() for each in heard], timeout=_PATIENCE_S)
    for session, heard in told.items():
        knew = [each.result().at for each in heard if each.done()]
        if len(knew) == len(heard):
            took.seconds.append(max(knew) - at)
            took.first.append(max(each.result().at for each in first[session]) - at)
        else:
            took.faults.append(f"{session}: {len(knew)} of {len(heard)} browsers were told within {_PATIENCE_S:g} s")


def _is(types: Sequence[str], event: Frame) -> bool:
    return event["type"] in types
