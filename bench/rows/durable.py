"""Durable streams through our gateway against the reference server of the protocol, which keeps them in files.

Both are asked by the same client over HTTP; each serves from a core of its own, and has the client, and our broker,
on the other. Its packages are installed by npm when they are not there.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import psutil

from bench.gateway import stop
from bench.plan import Plan
from bench.report import Row, middle, percentile
from bench.stage import SERVING_CORE, Stage, pin

_NODE: Final = Path(__file__).parent.parent / "durable"
_APPENDS: Final = 2000
_STREAMS: Final = 64
_ENTRIES: Final = 10_000
_BODY: Final = b'{"text":"' + b"x" * 100 + b'"}'
_JSON: Final = {"Content-Type": "application/json"}
# Readers of one stream, and appends a second while they read.
_READERS: Final = ((1, 50), (100, 20), (1000, 4))
_LIVE_S: Final = 8


def measure(plan: Plan) -> list[Row]:
    rounds: list[dict[str, tuple[float, float]]] = []
    with Stage() as stage, _reference() as theirs:
        ours = f"http://127.0.0.1:{stage.gateway_port}/v1/stream/bench"
        for number in range(plan.rounds):
            found: dict[str, dict[str, float]] = {}
            sides = [("ours", ours), ("theirs", f"{theirs}/v1/stream/bench")]
            for side, url in sides if number % 2 == 0 else sides[::-1]:
                for name, value in stage.run(_measured(f"{url}/{side}-{number}", plan, side)).items():
                    found.setdefault(name, {})[side] = value
            rounds.append({name: (each["ours"], each["theirs"]) for name, each in found.items() if len(each) == 2})
    names = dict.fromkeys(name for each in rounds for name in each)
    return [_row(name, [each[name] for each in rounds if name in each]) for name in names]


def _row(name: str, pairs: Sequence[tuple[float, float]]) -> Row:
    ours, theirs = (middle(column) for column in zip(*pairs, strict=True))
    rate = name.endswith("/s")
    ratio = middle([one / other for one, other in pairs])
    text = (f"{value:,.0f}" if rate else f"{value:.2f} ms" for value in (ours, theirs))
    return Row(
        f"durable streams: {name}", next(text), f"{next(text)} (reference)", ratio, 1.0, "more" if rate else "less"
    )


@contextmanager
def _reference() -> Iterator[str]:
    """Run the reference server on its file store; yields its URL."""
    if not (_NODE / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--silent"], cwd=_NODE, check=True)
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        process = psutil.Popen(
            ["node", "server.mjs", directory], cwd=_NODE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith(b"{"))
            pin(process.pid, SERVING_CORE)
            yield json.loads(line)["url"]
        finally:
            stop(process)


async def _measured(url: str, plan: Plan, side: str) -> dict[str, float]:
    found: dict[str, float] = {}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await _make(http, f"{url}-one")
        took = await _append(http, f"{url}-one", plan.scaled(_APPENDS))
        found["appends to one stream, one after the other/s"] = len(took) / sum(took)
        found["  p99 of an append"] = percentile(took, 0.99) * 1e3
        for number in range(_STREAMS):
            await _make(http, f"{url}-of-{number}")
        begun = time.perf_counter()
        each = plan.scaled(_APPENDS) // 20
        try:
            await asyncio.gather(*(_append(http, f"{url}-of-{n}", each) for n in range(_STREAMS)))
        except AssertionError as error:
            # Theirs says of one of them, now and then, that it is not there. Such a round is left out.
            if side == "ours":
                raise
            print(f"the reference server, {_STREAMS} streams at once: {error}", file=sys.stderr)
        else:
            found[f"appends to {_STREAMS} streams at once/s"] = _STREAMS * each / (time.perf_counter() - begun)
        found[f"replay of {plan.scaled(_ENTRIES):,} entries"] = await _replay(
            http, f"{url}-long", plan.scaled(_ENTRIES)
        )
        for readers, rate in _READERS:
            count = plan.scaled(readers)
            late = await _live(f"{url}-live-{readers}", count, rate, plan.scaled(_LIVE_S, 2))
            found[f"append to {count:,} readers of events, p50"] = percentile(late, 0.5) * 1e3
            found["  p99" + " " * len(str(readers))] = percentile(late, 0.99) * 1e3
    return found


async def _make(http: aiohttp.ClientSession, url: str, body: bytes = b"[]") -> None:
    async with http.put(url, headers=_JSON, data=body) as answer:
        assert answer.status == 201, await answer.text()


async def _append(http: aiohttp.ClientSession, url: str, count: int) -> list[float]:
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        async with http.post(url, headers=_JSON, data=_BODY) as answer:
            assert answer.status in (200, 204), await answer.text()
        took.append(time.perf_counter() - begun)
    return took


async def _replay(http: aiohttp.ClientSession, url: str, count: int) -> float:
    """Return the milliseconds from the first request until all entries are there, each appended by itself."""
    await _make(http, url)
    for _ in range(count):
        async with http.post(url, headers=_JSON, data=_BODY) as answer:
            assert answer.status in (200, 204), await answer.text()
    begun, offset, seen = time.perf_counter(), "-1", 0
    while seen < count:
        async with http.get(url, params={"offset": offset}) as answer:
            seen += (await answer.read()).count(b'"text"')
            offset = answer.headers["Stream-Next-Offset"]
    return (time.perf_counter() - begun) * 1e3


async def _live(url: str, readers: int, rate: int, seconds: int) -> list[float]:
    """Return how long each entry took from the call that appends it to each reader."""
    async with aiohttp.ClientSession() as http:
        await _make(http, url)
    late: list[float] = []
    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_read(url, ready, late)) for _ in range(readers)]
    async with asyncio.timeout(120):
        for _ in range(readers):
            await ready.acquire()
    # A connection of its own: one that waited for the readers could be one that the server has just let go of.
    async with aiohttp.ClientSession() as http:
        for _ in range(rate * seconds):
            began = time.perf_counter()
            async with http.post(url, headers=_JSON, data=b'{"at":%.7f}' % time.perf_counter()) as answer:
                assert answer.status in (200, 204), await answer.text()
            await asyncio.sleep(max(0.0, 1 / rate - (time.perf_counter() - began)))
    await asyncio.sleep(1.0)  # what is under way arrives, or is missed below
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(late) >= 0.99 * rate * seconds * readers, f"{len(late)} of {rate * seconds * readers} arrived"
    return late


async def _read(url: str, ready: asyncio.Semaphore, late: list[float]) -> None:
    """Follow by server-sent events on a socket of one's own, and look for nothing but the moments in it."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    asked = f"GET {parts.path}?offset=-1&live=sse HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream"
    writer.write(f"{asked}\r\n\r\n".encode())
    with suppress(asyncio.CancelledError):
        first = True
        while line := await reader.readline():
            if first and line.startswith(b"event: control"):
                first = False
                ready.release()
            at = line.find(b'{"at":')
            if at >= 0:
                late.append(time.perf_counter() - float(line[at + 6 : line.index(b"}", at)]))
    writer.close()
