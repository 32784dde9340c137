"""Reads from streams: merged over filters, in bulk, of large bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.reading import BATCH, BULK, matches
from session_fabric.ports import Stretch, Wanted
from session_fabric.words.events import Draft
from session_fabric.words.names import new_id
from session_fabric.words.subjects import KINDS, Kind, Place

from tests.support.brokers import connect
from tests.support.events import claim, collect, delta, milestone, stretch, value
from tests.support.servers import NatsNode


@pytest.fixture
async def broker(shared_server: NatsNode) -> AsyncIterator[JetStreamBroker]:
    broker = await connect(shared_server.url)
    yield broker
    await broker.close()


@pytest.fixture
async def to(broker: JetStreamBroker, tenant: str) -> Stretch:
    return await stretch(broker, tenant)


async def fill(broker: JetStreamBroker, to: Stretch, drafts: list[Draft]) -> list[int]:
    """Store drafts in this order, many at once."""
    out: list[int] = []
    for at in range(0, len(drafts), 500):
        acks = await asyncio.gather(*(broker.log.publish(to, draft) for draft in drafts[at : at + 500]))
        out += [ack.sequence for ack in acks]
    return out


def of(kind: Kind, name: str, number: int) -> Draft:
    if kind == "tok":
        return delta(str(number), run=name)
    return claim(name) if kind == "own" else milestone(number, kind=kind, name=name)


ITEMS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(["a", "b"])), max_size=40)
FILTERS = st.lists(
    st.builds(Wanted, st.sampled_from(KINDS), st.sampled_from([None, "a", "b"]), st.integers(0, 30)),
    max_size=4,
    unique_by=lambda w: w.kind,  # they never overlap
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=ITEMS, filters=FILTERS, window=st.tuples(st.integers(0, 45), st.integers(0, 45)))
async def test_a_read_over_filters_is_what_matches_in_order(
    broker: JetStreamBroker,
    items: list[tuple[Kind, str]],
    filters: list[Wanted],
    window: tuple[int, int],
) -> None:
    to = await stretch(broker, new_id("t"))
    sequences = [(await broker.log.publish(to, of(kind, name, n))).sequence for n, (kind, name) in enumerate(items)]
    base = sequences[0] - 1 if sequences else 0
    after, upto = base + min(window), base + max(window)
    filters = [w._replace(after=base + w.after) for w in filters]
    expected = [
        sequence
        for sequence, (kind, name) in zip(sequences, items, strict=True)
        if after < sequence <= upto
        and (not filters or any(w.kind == kind and w.name in (None, name) and sequence > w.after for w in filters))
    ]
    got = await collect(broker.log.read(to, after=after, upto=upto, wanted=filters))
    assert [r.sequence for r in got] == expected


@pytest.mark.parametrize("count", [BATCH - 1, BATCH, BATCH + 1, BULK + BATCH - 1, BULK + BATCH + 1, 3 * BULK + 7])
async def test_a_read_of_any_length_is_whole(broker: JetStreamBroker, to: Stretch, count: int) -> None:
    sequences = await fill(broker, to, [milestone(n) for n in range(count)])
    got = await collect(broker.log.read(to, after=0, upto=sequences[-1]))
    assert [r.sequence for r in got] == sequences
    assert [value(r) for r in got] == list(range(count))
    assert all(r.ts > 0 and r.id and r.actor == "agent:writer" for r in got[:: max(1, count // 50)])
    middle = sequences[count // 3], sequences[2 * count // 3]
    part = await collect(broker.log.read(to, after=middle[0], upto=middle[1]))
    assert [r.sequence for r in part] == [s for s in sequences if middle[0] < s <= middle[1]]


async def test_a_long_read_keeps_to_its_filters(broker: JetStreamBroker, to: Stretch) -> None:
    drafts = [of("tok" if n % 2 else "ev", ("a", "b", "c")[n % 3], n) for n in range(5 * BULK)]
    sequences = await fill(broker, to, drafts)
    start = sequences[3000]
    wanted = [Wanted("ev"), Wanted("tok", "a", start), Wanted("tok", "b")]
    got = await collect(broker.log.read(to, after=sequences[10], upto=sequences[-10], wanted=wanted))
    expected = [
        sequence
        for sequence, draft in zip(sequences[11:-9], drafts[11:-9], strict=True)
        if draft.kind == "ev" or draft.name == "b" or (draft.name == "a" and sequence > start)
    ]
    assert [r.sequence for r in got] == expected


async def test_a_long_read_whose_consumer_goes_away_is_whole_all_the_same(broker: JetStreamBroker, to: Stretch) -> None:
    sequences = await fill(broker, to, [milestone(n) for n in range(5 * BULK)])
    got: list[int] = []
    async with aclosing(broker.log.read(to, after=0, upto=sequences[-1])) as batches:
        async for records in batches:
            got += [r.sequence for r in records]
            listed = await broker.api.call(f"CONSUMER.NAMES.{to.home.stream}", {"offset": 0})
            for name in listed.get("consumers") or []:
                if name.startswith("sf-read-"):
                    await broker.api.call(f"CONSUMER.DELETE.{to.home.stream}.{name}")
    assert got == sequences


async def test_a_long_read_leaves_no_consumer_behind(broker: JetStreamBroker, to: Stretch) -> None:
    sequences = await fill(broker, to, [milestone(n) for n in range(2 * BULK)])
    await collect(broker.log.read(to, after=0, upto=sequences[-1]))
    async with aclosing(broker.log.read(to, after=0, upto=sequences[-1])) as batches:
        await anext(batches)  # and go away
    listed = await broker.api.call(f"CONSUMER.NAMES.{to.home.stream}", {"offset": 0})
    assert not [name for name in listed.get("consumers") or [] if name.startswith("sf-read-")]


async def test_many_long_reads_at_once_do_not_mix(broker: JetStreamBroker, to: Stretch, tenant: str) -> None:
    other = await stretch(broker, tenant, "chat-2")
    mine, theirs = await asyncio.gather(
        fill(broker, to, [milestone(n) for n in range(2 * BULK)]),
        fill(broker, other, [milestone(-n) for n in range(2 * BULK)]),
    )
    reads = [collect(broker.log.read(where, after=0, upto=max(mine + theirs))) for where in (to, other) * 3]
    for n, got in enumerate(await asyncio.gather(*reads)):
        assert [r.sequence for r in got] == (theirs if n % 2 else mine)


@pytest.mark.parametrize("size", [256 * 1024 + 1, 300_000, 1024 * 1024, 7 * 1024 * 1024])
async def test_a_large_body_comes_back_as_it_was(broker: JetStreamBroker, to: Stretch, size: int) -> None:
    before = await broker.log.publish(to, milestone("before"))
    large = await broker.log.publish(to, milestone("x" * size))
    await broker.log.publish(to, milestone("after"))
    got = await collect(broker.log.read(to, after=0, upto=await broker.log.head(to)))
    assert [value(r) for r in got] == ["before", "x" * size, "after"]
    assert [value(r) for r in await collect(broker.log.read_back(to, before=large.sequence + 1, limit=1))] == [
        "x" * size
    ]
    assert before.sequence < large.sequence


async def test_many_large_bodies_are_read_in_order(broker: JetStreamBroker, to: Stretch) -> None:
    bodies = [f"{n}" + "y" * 400_000 if n % 2 else f"{n}" for n in range(24)]
    for body in bodies:
        await broker.log.publish(to, milestone(body))
    got = await collect(broker.log.read(to, after=0, upto=await broker.log.head(to)))
    assert [value(r) for r in got] == bodies


async def test_bodies_near_the_inline_limit_fit_a_batch(broker: JetStreamBroker, to: Stretch) -> None:
    bodies = [f"{n}" + "z" * 250_000 for n in range(30)]
    await fill(broker, to, [milestone(body) for body in bodies])
    got = await collect(broker.log.read(to, after=0, upto=await broker.log.head(to)))
    assert [value(r) for r in got] == bodies


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [(None, None, True), ("ev", None, True), ("ev", "_", True), ("ev", "a", False), ("tok", None, False)],
)
def test_a_filter_takes_in_its_own(kind: Kind | None, name: str | None, expected: bool) -> None:
    place = Place("t", "chat-1")
    assert matches(place.stored_filter(kind, name), place.stored("ev", "_", "agent:x")) is expected


def test_a_name_that_begins_another_does_not_match_it() -> None:
    place = Place("t", "chat-1")
    assert not matches(place.stored_filter("tok", "r1"), place.stored("tok", "r10", "agent:x"))
