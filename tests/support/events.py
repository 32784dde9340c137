"""Drafts and stretches for tests, with defaults for what a test does not care about."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import orjson
from session_fabric.ports import Broker, Stretch
from session_fabric.words.events import CONTROL_REQUESTED, RUN_CLAIMED, TEXT_CONTENT, DeltaRef, Draft
from session_fabric.words.names import new_id
from session_fabric.words.subjects import NO_NAME, Kind, Place
from session_fabric.words.wire import Record

WRITER = "agent:writer"


def milestone(
    value: object = None,
    *,
    id: str | None = None,
    kind: Kind = "ev",
    name: str = NO_NAME,
    writer: str = WRITER,
    run: str | None = None,
    type: str = "app.test",
) -> Draft:
    """Draft an event whose body carries `value`."""
    body = orjson.dumps({"type": type, "value": value})
    return Draft(type, body, id or new_id(), kind, name, writer, writer, run=run)


def delta(
    text: str, *, run: str, at: int = 0, message: str = "m1", writer: str = WRITER, id: str | None = None
) -> Draft:
    """Draft a piece of a message's text."""
    ref = DeltaRef(message, at)
    body = orjson.dumps(text)
    return Draft(TEXT_CONTENT, body, id or new_id(), "tok", run, writer, writer, run=run, delta=ref)


def claim(run: str, *, writer: str = WRITER, id: str | None = None) -> Draft:
    return milestone(run, id=id, kind="own", name=run, writer=writer, run=run, type=RUN_CLAIMED)


def control(run: str, *, writer: str = "user:ada") -> Draft:
    return milestone(run, writer=writer, run=run, type=CONTROL_REQUESTED)


async def stretch(broker: Broker, tenant: str, session: str = "chat-1", segment: int | None = None) -> Stretch:
    """Name where a session's events go, under a segment that begins now."""
    place = Place(tenant, session)
    return Stretch(await broker.log.home(place), place, segment or time.time_ns() // 1000)


async def collect(batches: AsyncIterator[Sequence[Record]]) -> list[Record]:
    return [record async for batch in batches for record in batch]


async def everything(broker: Broker, to: Stretch) -> list[Record]:
    """Read all that a stretch holds."""
    return await collect(broker.log.read(to, after=0, upto=await broker.log.head(to)))


def value(record: Record) -> object:
    return orjson.loads(record.body)["value"]
