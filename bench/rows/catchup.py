"""Catching up 10,000 stored events of one session among 100,000 sessions, through the gateway and natively."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import nats
import orjson
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from session_fabric.ports import Stretch
from session_fabric.words.subjects import Place, shard

from bench.plan import Plan
from bench.report import Row, middle
from bench.sockets import MARK, Publisher, gateway_viewer, publication
from bench.stage import Stage
from bench.viewers import Counter

_SESSIONS = 100_000
_EVENTS = 10_000
_STREAMS = 16
_BODY = orjson.dumps({"type": "app.note", "text": MARK.decode() + "x" * 120})


def measure(plan: Plan) -> list[Row]:
    ours, native, firsts = [], [], []
    # One for each round: what was read once is in the gateway's memory.
    names = [f"long-{number}" for number in range(plan.rounds)]
    others = plan.scaled(_SESSIONS)
    with Stage(streams=_STREAMS) as stage:
        places = stage.sessions(names)
        _fill(stage, list(places.values()), others)
        for name in names:
            first_ms, all_ms = _through_gateway_ms(stage, name)
            firsts.append(first_ms)
            ours.append(all_ms)
            native.append(stage.run(_native_ms(stage, places[name])))
    through, natively = middle(ours), middle(native)
    return [
        Row(
            f"catch-up of {_EVENTS:,} events among {others:,} sessions",
            f"{through:.0f} ms",
            f"{natively:.0f} ms natively",
            through,
            400,
            "less",
            "ms",
            notes=f"first events after {middle(firsts):.1f} ms; {_STREAMS} streams",
        ),
        Row(
            "  against an ordered push consumer of nats-py",
            f"{through:.0f} ms",
            f"{natively:.0f} ms",
            through / natively,
            3,
            "less",
        ),
    ]


def _through_gateway_ms(stage: Stage, name: str) -> tuple[float, float]:
    """Return how long the first events took, and all of them, from the connection's beginning."""
    began = time.monotonic()
    viewer, data = gateway_viewer(stage.gateway_port, name, after="start", until=b'"op":"events"')
    first_ms = (time.monotonic() - began) * 1e3
    counter = Counter()
    counter.take(data)
    while counter.count < _EVENTS:
        chunk = viewer.recv(1 << 20)
        if not chunk:
            raise RuntimeError(f"the gateway closed the connection after {counter.count:,} events")
        counter.take(chunk)
    all_ms = (time.monotonic() - began) * 1e3
    viewer.close()
    if counter.count != _EVENTS:
        raise RuntimeError(f"{counter.count:,} events came of {_EVENTS:,}")
    return first_ms, all_ms


def _fill(stage: Stage, stretches: Sequence[Stretch], others: int) -> None:
    """Store one event in each of the other sessions, the long ones' between them."""
    publisher = Publisher(stage.nats_port)
    publisher.fill(_notes(stretches, others))
    publisher.close()


def _notes(stretches: Sequence[Stretch], others: int) -> Iterator[bytes]:
    every = others // _EVENTS
    for number in range(others):
        yield _note(Place("default", f"other-{number}"), number)
        if number % every == 0:
            yield from (_note(to.place, number) for to in stretches)


def _note(place: Place, number: int) -> bytes:
    headers = {
        "Nats-Msg-Id": f"{shard(*place)}.{place.session}.{number}",
        "Sf-Type": "app.note",
        "Sf-Actor": "user:ada",
    }
    return publication(place.stored("ev", "_", "gw"), headers, _BODY)


async def _native_ms(stage: Stage, to: Stretch) -> float:
    """Read the same events with nats-py's ordered push consumer and a callback."""
    connection = await nats.connect(stage.url)
    done = asyncio.Event()
    count = 0

    async def arrived(message: object) -> None:
        nonlocal count
        count += 1
        if count == _EVENTS:
            done.set()

    began = time.monotonic()
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE)
    await connection.jetstream().subscribe(
        to.place.stored_filter("ev", "_"), stream=to.home.stream, cb=arrived, ordered_consumer=True, config=config
    )
    async with asyncio.timeout(60):
        await done.wait()
    took_ms = (time.monotonic() - began) * 1e3
    await connection.close()
    return took_ms
