"""A broker's leader that is killed under runs that write: nobody is taken for dead, and no answer loses anything."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

from session_fabric import Fabric, Session
from session_fabric.leases import BUCKET
from session_fabric.rules.layout import STREAM_PREFIX

from bench.agents import Agents, whole
from bench.plan import Plan
from bench.report import Row
from tests.support.servers import NatsCluster, running
from tests.support.waiting import eventually

_PROCESSES: Final = 4
_STREAMS: Final = 4
# What a run's life may hold when nothing has happened to it.
_UNHARMED: Final = {"RUN_STARTED": 1, "RUN_FINISHED": 1}
_WRITES_S: Final = 1.0
_OVER_S: Final = 90.0


def measure(plan: Plan) -> list[Row]:
    rows = []
    for stream, what in ((f"{STREAM_PREFIX}00", "sessions"), (f"KV_{BUCKET}", "leases")):
        with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
            cluster = NatsCluster(Path(directory))
            with running(cluster):
                rows.append(asyncio.run(_measure(cluster, stream, what, plan.scaled(200, 4))))
    return rows


async def _measure(cluster: NatsCluster, stream: str, what: str, runs: int) -> Row:
    async with Fabric.connect(cluster.url, participant="user:ada", streams=_STREAMS, timeout_s=60.0) as fabric:
        await fabric.watch_over()
        sessions = [fabric.session(f"s{number}") for number in range(runs)]
        with Agents() as agents:
            for _ in range(_PROCESSES):
                await agents.start(cluster.url, concurrency=runs)
            await asyncio.gather(*(_ask(session) for session in sessions))
            await asyncio.gather(*(_writes(session) for session in sessions))
            leader = await eventually(lambda: cluster.stream_leader(stream))
            leader.kill()
            # Through the election, and until those who were slow to come back have been judged.
            await asyncio.sleep(15.0)
            agents.finish()
            lives = await asyncio.gather(*(_life(session) for session in sessions))
        entire = sum([whole(await _said(session)) for session in sessions])
    unharmed = sum(life == _UNHARMED for life in lives)
    harmed = Counter(type for life in lives for type in life.keys() - _UNHARMED.keys())
    fault = f"{runs - unharmed} harmed ({dict(harmed)}), {runs - entire} in part"
    return Row(
        f"leader of the {what} killed (R3), {runs} runs",
        f"{unharmed} unharmed",
        "",
        unharmed / runs,
        1.0,
        "more",
        notes=f"{_PROCESSES} processes write 20 tokens/s in each run; every text whole: {entire} of {runs}",
        faults=[] if unharmed == entire == runs else [fault],
    )


async def _ask(session: Session) -> None:
    message = {"id": "q1", "role": "user", "content": "count"}
    await session.append({"type": "message.user", "message": message}, id="q1")


async def _writes(session: Session) -> None:
    async with asyncio.timeout(_OVER_S), aclosing(session.follow()) as events:
        async for event in events:
            if event.type == "TEXT_MESSAGE_CONTENT":
                return


async def _life(session: Session) -> Mapping[str, int]:
    """Wait for the end of the session's run; return what happened to it, by type."""
    life: Counter[str] = Counter()
    async with asyncio.timeout(_OVER_S), aclosing(session.follow()) as events:
        async for event in events:
            if event.type.startswith(("RUN_", "run.")):
                life[event.type] += 1
            if event.type in ("RUN_FINISHED", "RUN_ERROR"):
                break
    return life


async def _said(session: Session) -> str:
    """Return what the session's run has said."""
    said = [m.content for m in (await session.messages()).messages if m.role == "assistant"]
    return "".join(str(text) for text in said)
