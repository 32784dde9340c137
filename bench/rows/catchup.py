"""Catching up 10,000 stored events of one session among 100,000 sessions, through the gateway and natively."""

from __future__ import annotations

import asyncio
import time

import nats
import orjson
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from session_fabric.ports import Stretch
from session_fabric.words.subjects import Place, shard

from bench.report import Row, middle
from bench.sockets import Publisher, gateway_viewer, publication
from bench.stage import Stage

_SESSIONS = 100_000
_EVENTS = 10_000
_STREAMS = 16
_BODY = orjson.dumps({"type": "app.note", "text": "~" + "x" * 120})


def measure(rounds: int) -> list[Row]:
    ours, native, firsts = [], [], []
    with Stage(streams=_STREAMS) as stage:
        to = stage.sessions(["long"])["long"]
        _fill(stage, to)
        for _ in range(rounds):
            began = time.monotonic()
            viewer, data = gateway_viewer(stage.gateway_port, "long", after="start", until=b'"op":"events"')
            firsts.append((time.monotonic() - began) * 1e3)
            count = data.count(b"~")
            while count < _EVENTS:
                chunk = viewer.recv(1 << 20)
                count += chunk.count(b"~")
            ours.append((time.monotonic() - began) * 1e3)
            viewer.close()
            native.append(stage.run(_native_ms(stage, to)))
    through, natively = middle(ours), middle(native)
    return [
        Row(
            f"catch-up of {_EVENTS:,} events among {_SESSIONS:,} sessions",
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


def _fill(stage: Stage, to: Stretch) -> None:
    """Store one event in each of the other sessions, the long one's between them."""
    publisher = Publisher(stage.nats_port)
    every = _SESSIONS // _EVENTS
    batch: list[bytes] = []
    for number in range(_SESSIONS):
        batch.append(_note(Place("default", f"other-{number}"), number))
        if number % every == 0:
            batch.append(_note(to.place, number))
        if len(batch) >= 5000:
            publisher.publish(batch, window=2000)
            batch.clear()
    publisher.publish(batch, window=2000)
    publisher.close()


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
