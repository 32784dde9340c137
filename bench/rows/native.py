"""Agents with rights of their own alone, who ask a gateway for what is stored, against the broker's full rights."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from session_fabric import Fabric
from session_fabric.jetstream.credentials import Credentials
from session_fabric.remote.broker import RemoteBroker

from bench.plan import Plan
from bench.report import Row, middle, percentile
from bench.stage import Stage
from bench.tokens import Signer

_APPENDS: Final = 1000
_TOGETHER: Final = 64
_EVENTS: Final = 10_000
_WORDS: Final = 2000
_AGENT: Final = "agent:bench"
_BODY: Final = {"type": "app.note", "text": "x" * 160}


def measure(plan: Plan) -> list[Row]:
    rounds: list[dict[str, tuple[float, float]]] = []
    with _stage() as (stage, token):
        for number in range(plan.rounds):
            rounds.append(stage.run(_round(stage, token, number, plan)))
    found = {name: [each[name] for each in rounds] for name in rounds[0]}
    return [
        _row("native agent that asks: append, one after the other, p50", "ms", found["append"]),
        _row("  p99", "ms", found["append p99"]),
        _row(f"  {_TOGETHER} at a time, a thousand", "ms", found["together"]),
        _row(f"  catch-up of {plan.scaled(_EVENTS):,} events", "ms", found["catch-up"]),
        _row("  a word of a run until somebody follows it, p50", "ms", found["word"]),
    ]


def _row(name: str, unit: str, pairs: Sequence[tuple[float, float]]) -> Row:
    asked, direct = (middle(column) for column in zip(*pairs, strict=True))
    ratio = middle([one / other for one, other in pairs])
    return Row(name, f"{asked:.2f} {unit}", f"{direct:.2f} {unit} with full rights", ratio, None, "less")


@contextmanager
def _stage() -> Iterator[tuple[Stage, str]]:
    signer = Signer()
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        keys = signer.publish(Path(directory) / "keys.json")
        with Stage(access=("--token-keys", str(keys))) as stage:
            yield stage, signer.token(_AGENT)


@asynccontextmanager
async def _asking(stage: Stage, token: str) -> AsyncIterator[Fabric]:
    broker = await RemoteBroker.connect(
        stage.url, tenant="default", participant=_AGENT, credentials=Credentials(bearer=token)
    )
    async with await Fabric.over(broker, participant=_AGENT) as fabric:
        yield fabric


async def _round(stage: Stage, token: str, number: int, plan: Plan) -> dict[str, tuple[float, float]]:
    """Return for each thing what it took who asks, and who has all rights; who is first changes by the round."""
    found: dict[str, dict[str, float]] = {}
    async with _asking(stage, token) as asking, Fabric.connect(stage.url, participant=_AGENT) as direct:
        sides = [("asking", asking), ("direct", direct)]
        for side, fabric in sides if number % 2 == 0 else sides[::-1]:
            for name, value in (await _measured(fabric, direct, f"{side}-{number}", plan)).items():
                found.setdefault(name, {})[side] = value
    return {name: (each["asking"], each["direct"]) for name, each in found.items()}


async def _measured(fabric: Fabric, reader: Fabric, name: str, plan: Plan) -> dict[str, float]:
    session = fabric.session(name)
    await session.create()
    took: list[float] = []
    for _ in range(plan.scaled(_APPENDS)):
        begun = time.perf_counter()
        await session.append(_BODY)
        took.append((time.perf_counter() - begun) * 1e3)
    several = asyncio.Semaphore(_TOGETHER)

    async def append() -> None:
        async with several:
            await session.append(_BODY)

    begun = time.perf_counter()
    await asyncio.gather(*(append() for _ in range(plan.scaled(_APPENDS))))
    together = (time.perf_counter() - begun) * 1e3
    return {
        "append": percentile(took, 0.5),
        "append p99": percentile(took, 0.99),
        "together": together,
        "catch-up": await _catch_up(fabric, reader, f"{name}-long", plan.scaled(_EVENTS)),
        "word": await _words(fabric, reader, f"{name}-run", plan.scaled(_WORDS)),
    }


async def _catch_up(fabric: Fabric, writer: Fabric, name: str, count: int) -> float:
    several = asyncio.Semaphore(256)

    async def append() -> None:
        async with several:
            await writer.session(name).append(_BODY)

    await asyncio.gather(*(append() for _ in range(count)))
    begun = time.perf_counter()
    seen = 0
    async for _ in fabric.session(name).follow("start"):
        seen += 1
        if seen == count:
            break
    return (time.perf_counter() - begun) * 1e3


async def _words(fabric: Fabric, reader: Fabric, name: str, count: int) -> float:
    """Return how long a word took from where it was written to who follows with full rights, p50."""
    await reader.session(name).create()
    heard = asyncio.Queue[float]()

    async def follow() -> None:
        async for event in reader.session(name).follow("tail", deltas="all"):
            if event.type == "TEXT_MESSAGE_CONTENT":
                heard.put_nowait(time.perf_counter())

    following = asyncio.create_task(follow())
    took: list[float] = []
    async with fabric.session(name).run() as run:
        await run.text("first")
        async with asyncio.timeout(60):
            await heard.get()
            for _ in range(count // 10):
                begun = time.perf_counter()
                await run.text("word ")
                took.append((await heard.get() - begun) * 1e3)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return percentile(took, 0.5)
