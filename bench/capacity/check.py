"""What checks the model: so many idle sessions at a broker of one's own, and what each has added."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import nats
from session_fabric import Fabric
from session_fabric.words.subjects import SHARDS, Place, shard

from bench.capacity.inputs import WrongInput
from bench.report import percentile
from bench.sockets import Publisher, gateway_viewer, publication
from bench.stage import Stage

# Made through the SDK: enough that each stream has one of them, to be a pattern for others.
_REAL: Final = 1_000
_NAME: Final = re.compile(r"cap-\d{8}")
# What was filled in is written down for a second or so, and what is asked for first is looked up on the disk.
_FIRST: Final = 5_000
_APPENDS: Final = 20_000
_OPENS: Final = 500
_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")


class Idle(NamedTuple):
    """With `sessions` idle ones at a broker: what each adds, and how long things take meanwhile."""

    sessions: int
    memory_each: float
    disk_each: float
    append_p50_ms: float
    append_p99_ms: float
    append_worst_ms: float
    open_p50_ms: float
    open_p99_ms: float
    restart_s: float


class Stored(NamedTuple):
    """A message of a session as the broker has it."""

    session: str
    subject: str
    headers: dict[str, str]
    body: bytes


def measure(sizes: list[int], streams: int = 16) -> Iterator[Idle]:
    """Fill one broker up to each size in turn, and look. Sessions are what `fabric.session(name).record()` leaves.

    Raises `WrongInput`.
    """
    if not 1 <= streams <= SHARDS:
        raise WrongInput(f"streams is {streams}: it must be from 1 to {SHARDS}")
    if min(sizes) < _REAL:
        raise WrongInput(f"{min(sizes):,} sessions are too few to measure: {_REAL:,} at least")
    with Stage(streams=streams) as stage:
        memory, disk = stage.broker_rss(), stage.disk_bytes()
        stage.sessions([named(number) for number in range(_REAL)])
        patterns, made = stage.run(_patterns(stage.url, streams)), _REAL
        for size in sorted(sizes):
            _fill(stage, patterns, streams, made, size)
            made = size
            memory_each = (stage.broker_rss() - memory) / size
            filled = stage.disk_bytes()
            disk_each = (filled - disk) / size
            stage.run(_appends(stage.url, size, _FIRST))
            appends = stage.run(_appends(stage.url, size, _APPENDS))
            opens = [_open_ms(stage, number * (size // _OPENS or 1)) for number in range(min(_OPENS, size))]
            disk += stage.disk_bytes() - filled  # what was appended to see how long it takes
            stage.kill_broker()
            begun = time.monotonic()
            stage.start_broker()
            stage.run(_appends(stage.url, size, 1))
            yield Idle(
                size,
                memory_each,
                disk_each,
                percentile(appends, 0.5),
                percentile(appends, 0.99),
                max(appends),
                percentile(opens, 0.5),
                percentile(opens, 0.99),
                time.monotonic() - begun,
            )


def named(number: int) -> str:
    return f"cap-{number:08}"


def renamed(stored: Stored, session: str, id_: str) -> Stored:
    """Return what another session would have left."""
    place = Place("default", session)
    subject = stored.subject.replace(stored.session, session)
    subject = subject.replace(f".{shard('default', stored.session)}.", f".{shard(*place)}.", 1)
    headers = {name: _ID.sub(id_, value) for name, value in stored.headers.items() if not name.startswith("Nats-Exp")}
    return Stored(session, subject, headers, stored.body.replace(stored.session.encode(), session.encode()))


def home(session: str, streams: int) -> int:
    """Return the number of the stream that has a session: what its record names too."""
    return shard("default", session) * streams // SHARDS


async def _patterns(url: str, streams: int) -> dict[int, list[Stored]]:
    """Return, for each stream, all that one session of it has at the broker."""
    connection = await nats.connect(url)
    broker = connection.jetstream()
    by_session: dict[str, list[Stored]] = {}
    for stream in await broker.streams_info():
        for number in range(max(1, stream.state.first_seq), stream.state.last_seq + 1):
            try:
                message = await broker.get_msg(str(stream.config.name), number)
            except nats.js.errors.NotFoundError:
                continue
            subject = str(message.subject)
            if (name := _NAME.search(subject)) is not None:
                stored = Stored(name.group(), subject, message.headers or {}, message.data or b"")
                by_session.setdefault(name.group(), []).append(stored)
    await connection.close()
    found = {home(session, streams): stored for session, stored in by_session.items() if len(stored) >= 2}
    if len(found) < streams:
        raise RuntimeError(f"{len(found)} of {streams} streams have a session with its record and its first event")
    return found


def _fill(stage: Stage, patterns: dict[int, list[Stored]], streams: int, first: int, upto: int) -> None:
    publisher = Publisher(stage.nats_port)
    publisher.fill(
        publication(stored.subject, stored.headers, stored.body)
        for number in range(first, upto)
        for name in (named(number),)
        for stored in (renamed(pattern, name, f"{number:032x}") for pattern in patterns[home(name, streams)])
    )
    publisher.close()


async def _appends(url: str, size: int, tries: int) -> list[float]:
    """Return the milliseconds of appends to sessions far apart."""
    took = []
    async with Fabric.connect(url, participant="agent:writer", timeout_s=60) as fabric:
        for number in range(tries):
            session = fabric.session(named(number * 7919 % size))
            await session.record()
            begun = time.perf_counter()
            await session.append({"type": "app.note", "text": "x" * 100})
            took.append((time.perf_counter() - begun) * 1e3)
    return took


def _open_ms(stage: Stage, number: int) -> float:
    begun = time.perf_counter()
    gateway_viewer(stage.gateway_port, named(number), after="start")[0].close()
    return (time.perf_counter() - begun) * 1e3


def judge(found: list[Idle]) -> list[str]:
    """Return what is wrong: a session that costs more where there are more of them, latency that grows with them."""
    wrong = []
    for before, after in pairwise(found):
        pair = f"from {before.sessions:,} to {after.sessions:,} sessions"
        if after.sessions >= 10_000 and after.memory_each > 1.2 * before.memory_each and before.sessions >= 10_000:
            wrong.append(f"{pair} the memory of each grows from {before.memory_each:.0f} to {after.memory_each:.0f} B")
        if after.disk_each > 1.2 * before.disk_each:
            wrong.append(f"{pair} the disk of each grows from {before.disk_each:.0f} to {after.disk_each:.0f} B")
    if found:
        first, last = found[0], found[-1]
        for name, one, other in (
            ("append", first.append_p50_ms, last.append_p50_ms),
            ("append, once in a hundred,", first.append_p99_ms, last.append_p99_ms),
            ("open", first.open_p50_ms, last.open_p50_ms),
            ("open, once in a hundred,", first.open_p99_ms, last.open_p99_ms),
        ):
            if other > max(2 * one, one + 2):
                wrong.append(f"{name} takes {other:.1f} ms with {last.sessions:,} sessions, {one:.1f} with the first")
    return wrong
