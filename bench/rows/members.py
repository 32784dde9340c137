"""Many who are merely there: what a thousand sessions with three participants each cost while nothing happens."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

import psutil

from bench.browser import Browser, Browsers
from bench.gateway import cpu_s
from bench.house import own_gateway
from bench.plan import Plan
from bench.report import Row

_PARTICIPANTS: Final = 3
# Sessions that one socket has open: a participant's pages.
_OPEN: Final = 50
_SETTLES_S: Final = 40.0  # idle sessions are checked ever more seldom, up to every 30 s
_WATCHED_S: Final = 30.0


def measure(plan: Plan) -> list[Row]:
    return [asyncio.run(_measure(plan.scaled(1000, 5), _SETTLES_S if not plan.quick else 2.0))]


async def _measure(sessions: int, settles_s: float) -> Row:
    async with AsyncExitStack() as stack:
        broker, gateway = await stack.enter_async_context(own_gateway())
        browsers = await stack.enter_async_context(Browsers())
        sockets: list[Browser] = []
        for person in range(_PARTICIPANTS):
            for first in range(0, sessions, _OPEN):
                socket = await browsers.start(gateway.url, f"user:u{person}-{first}", "d1")
                sockets.append(socket)
                for number in range(first, min(first + _OPEN, sessions)):
                    await socket.open(f"s{number}", presence={})
        present = [len((await sockets[0].ask("who", session=f"s{n}"))["members"]) for n in range(min(_OPEN, sessions))]
        await asyncio.sleep(settles_s)
        processes = [gateway.process, psutil.Process(broker.pid)]
        begun, used = time.monotonic(), [cpu_s(process) for process in processes]
        await asyncio.sleep(_WATCHED_S)
        wall_s = time.monotonic() - begun
        ours, theirs = (100 * (cpu_s(p) - was) / wall_s for p, was in zip(processes, used, strict=True))
        closed = sum(socket.closed for socket in sockets)
    faults = [f"{closed} of {len(sockets)} sockets were closed"] if closed else []
    if set(present) != {_PARTICIPANTS}:
        faults.append(f"the sessions have {sorted(set(present))} present, not {_PARTICIPANTS}")
    return Row(
        f"{sessions} sessions x {_PARTICIPANTS} present: CPU, nothing happening",
        f"{ours + theirs:.1f}% of a core",
        "",
        ours + theirs,
        10.0,
        "less",
        "%",
        notes=f"{len(sockets)} sockets at one gateway; gateway {ours:.1f}%, broker {theirs:.1f}%, over {wall_s:.0f} s",
        faults=faults,
    )
