"""Reads from streams: merged over filters, in bulk, of large bodies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_fabric.jetstream import blobs, reading
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.reading import matches
from session_fabric.keyring import Keys
from session_fabric.ports import Stretch, Wanted
from session_fabric.rules import helpings
from session_fabric.rules.helpings import FEW, MANY
from session_fabric.rules.seals import Cipher
from session_fabric.sealed import Ciphers, SealedLog
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.events import Draft
from session_fabric.words.names import new_id
from session_fabric.words.subjects import KINDS, NO_NAME, Kind, Place

from tests.support.brokers import connect
from tests.support.events import claim, collect, delta, milestone, stretch, value
from tests.support.servers import NatsNode

# Where bulk reading begins, here: a fifth of what there has to be in earnest.
BULK = 1000


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BULK", BULK)


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


@pytest.mark.parametrize("count", [FEW - 1, FEW, FEW + 1, 7 * FEW + 1, BULK + FEW - 1, BULK + FEW + 1, 3 * BULK + 7])
async def test_a_read_of_any_length_is_whole(broker: JetStreamBroker, to: Stretch, count: int) -> None:
    sequences = await fill(broker, to, [milestone(n) for n in range(count)])
    got = await collect(broker.log.read(to, after=0, upto=sequences[-1]))
    assert [r.sequence for r in got] == sequences
    assert [value(r) for r in got] == list(range(count))
    assert all(r.ts > 0 and r.id and r.actor == "agent:writer" for r in got[:: max(1, count // 50)])
    middle = sequences[count // 3], sequences[2 * count // 3]
    part = await collect(broker.log.read(to, after=middle[0], upto=middle[1]))
    assert [r.sequence for r in part] == [s for s in sequences if middle[0] < s <= middle[1]]


@pytest.mark.parametrize(("held_back_s", "sizes"), [(0.0, [FEW] * 8), (60.0, [FEW, MANY, MANY, MANY, FEW])])
async def test_who_is_held_back_is_given_few_at_a_time(
    broker: JetStreamBroker, to: Stretch, monkeypatch: pytest.MonkeyPatch, held_back_s: float, sizes: list[int]
) -> None:
    monkeypatch.setattr(helpings, "_HELD_BACK_S", held_back_s)
    sequences = await fill(broker, to, [milestone(n) for n in range(8 * FEW)])
    assert [len(batch) async for batch in broker.log.read(to, after=0, upto=sequences[-1])] == sizes


async def test_a_read_of_a_few_asks_for_no_more_than_there_can_be(broker: JetStreamBroker, to: Stretch) -> None:
    asked: list[dict[str, object]] = []
    connection, _ = broker.reached()
    await connection.tap_now(
        f"$JS.API.DIRECT.GET.{to.home.stream}", lambda _s, _r, _h, body: asked.append(json.loads(body))
    )
    sequences = await fill(broker, to, [milestone(n) for n in range(8)])
    got = await collect(broker.log.read(to, after=sequences[4], upto=sequences[5]))
    await connection.rtt(5)
    assert [r.sequence for r in got] == sequences[5:6]
    mine = [one for one in asked if one.get("next_by_subj") == to.place.stored_filter()]
    assert [one["batch"] for one in mine] == [sequences[5] - sequences[4]]


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


async def test_a_long_read_asks_for_one_page_ahead_and_lets_go_of_it(broker: JetStreamBroker, to: Stretch) -> None:
    sequences = await fill(broker, to, [milestone(n) for n in range(5 * BULK)])
    before = asyncio.all_tasks()
    read = broker.log.read(to, after=0, upto=sequences[-1])
    for _ in range(2):
        await anext(read)  # the second is a consumer's
    ahead = asyncio.all_tasks() - before
    await asyncio.wait(ahead)
    assert len(ahead) == 1
    consumers = (await broker.api.call(f"CONSUMER.LIST.{to.home.stream}", {"offset": 0}))["consumers"]
    [mine] = [one for one in consumers if one["config"].get("filter_subjects") == [to.place.stored_filter()]]
    assert mine["num_pending"] >= 5 * BULK - FEW - 2 * reading._PAGE
    await anext(read)
    assert len(asyncio.all_tasks() - before) == 1
    await read.aclose()
    assert asyncio.all_tasks() == before


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


async def test_large_bodies_are_brought_as_they_are_read_and_not_a_batch_at_once(
    broker: JetStreamBroker, to: Stretch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "BATCH_BYTES", 800_000)
    for n in range(9):
        await broker.log.publish(to, milestone(f"{n}" + "y" * 400_000))
    upto = await broker.log.head(to)
    for read in (
        broker.log.read(to, after=0, upto=upto),
        broker.log.read_back(to, before=upto + 1, limit=9),
    ):
        batches = [[str(value(r))[0] for r in records] async for records in read]
        assert batches == [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"], ["8"]]


async def test_a_long_read_brings_large_bodies_back_too(broker: JetStreamBroker, to: Stretch) -> None:
    bodies = ["y" * 300_000 if n in (FEW + 9, BULK) else f"{n}" for n in range(BULK + MANY + 9)]
    await fill(broker, to, [milestone(body) for body in bodies])
    got = await collect(broker.log.read(to, after=0, upto=await broker.log.head(to)))
    assert sorted(str(value(r)) for r in got) == sorted(bodies)


async def test_a_long_read_of_sealed_bodies_is_opened(broker: JetStreamBroker, to: Stretch) -> None:
    class Kept(Ciphers):
        async def of(self, place: Place, segment: int | None = None) -> Cipher | None:
            return cipher

    cipher = Cipher(b"k" * 32)
    sealed = SealedLog(broker.log, Kept(broker, Keys({})))
    count = BULK + MANY + 9
    for at in range(0, count, 500):
        await asyncio.gather(*(sealed.publish(to, milestone(n)) for n in range(at, min(count, at + 500))))
    upto = await sealed.head(to)
    assert sorted(value(r) for r in await collect(sealed.read(to, after=0, upto=upto))) == list(range(count))
    assert all(r.malformed for r in await collect(broker.log.read(to, after=0, upto=upto)))


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


async def test_a_read_that_no_replica_can_end_is_refused_and_not_cut_short(
    broker: JetStreamBroker, to: Stretch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BEHIND_S", 0.2)
    (first, second) = await fill(broker, to, [milestone(1), milestone(2)])
    reader = broker.log._reader

    async def read(target: int) -> list[int]:
        """Read up to the first event, as from replicas of which the leader says that they are behind."""
        batches = reader.read(to, 0, first, [Wanted("own")], [target])
        return [record.sequence async for records in batches for record in records]

    with pytest.raises(BrokerUnavailable, match="behind the leader"):
        await read(second)
    await broker.log.erase(to, [second])
    assert await read(second) == []


async def publish_raw(url: str, subject: str, head: bytes, payload: bytes) -> None:
    """Publish a message as it is given, first line and all, as any client of the broker may; returns when it is in."""
    reader, writer = await asyncio.open_connection(*url.removeprefix("nats://").split(":"))
    try:
        size = len(head)
        writer.write(b'CONNECT {"headers":true,"verbose":false}\r\n')
        writer.write(
            b"HPUB %b %d %d\r\n%b%b\r\nPING\r\n" % (subject.encode(), size, size + len(payload), head, payload)
        )
        while not (await reader.readline()).startswith(b"PONG"):
            pass
    finally:
        writer.close()


@pytest.mark.parametrize("status", ["404 No Messages", "204 EOB", "503"])
@pytest.mark.parametrize("around", [3, BULK + 10])
async def test_what_was_stored_like_an_answer_of_the_brokers_ends_no_read(
    broker: JetStreamBroker, to: Stretch, shared_server: NatsNode, status: str, around: int
) -> None:
    """A client may give its message a status: it is stored as it came."""
    await fill(broker, to, [milestone(number) for number in range(around)])
    subject = to.place.stored("ev", NO_NAME, "agent:mallory")
    for payload in (b"", b"{}"):
        await publish_raw(
            shared_server.url, subject, b"NATS/1.0 %b\r\nSf-Type: app.test\r\n\r\n" % status.encode(), payload
        )
    last = await broker.log.publish(to, milestone("last"))
    read = await collect(broker.log.read(to, after=0, upto=last.sequence))
    assert len(read) == around + 3
    assert [value(read[0]), value(read[-1])] == [0, "last"]


async def test_the_only_node_is_not_asked_again_while_it_is_slow(own_server: NatsNode) -> None:
    broker = await connect(own_server.url)
    to = await stretch(broker, "acme")
    (sequence,) = await fill(broker, to, [milestone(1)])
    asked = own_server.monitor("/varz")["in_msgs"]
    own_server.freeze()
    read = asyncio.create_task(collect(broker.log.read(to, after=0, upto=sequence)))
    await asyncio.sleep(1.0)  # a replica among others has 0.3 s, and the next one half as much again
    own_server.thaw()
    assert len(await read) == 1
    assert own_server.monitor("/varz")["in_msgs"] == asked + 1
    await broker.close()
