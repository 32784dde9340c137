"""Storing events: one order, once each."""

from __future__ import annotations

import asyncio
import random
import time
from zlib import crc32

import orjson
import pytest
from session_fabric.ports import Broker, Stretch
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place

from tests.security.attacks import runs
from tests.support.brokers import Brokers
from tests.support.events import WRITER, claim, delta, everything, milestone, stretch, value


async def test_events_come_back_in_the_order_in_which_they_were_acknowledged(broker: Broker, to: Stretch) -> None:
    acks = [await broker.log.publish(to, milestone(n)) for n in range(20)]
    records = await everything(broker, to)
    assert [value(r) for r in records] == list(range(20))
    assert [r.sequence for r in records] == [a.sequence for a in acks]
    assert [r.sequence for r in records] == sorted({r.sequence for r in records})
    assert not any(a.duplicate for a in acks)


async def test_kinds_names_and_writers_share_one_order(broker: Broker, to: Stretch) -> None:
    drafts = [
        milestone("a"),
        claim("r1"),
        delta("b", run="r1"),
        milestone("c", kind="in", name="pool"),
        milestone("d", writer="user:ada"),
        delta("e", run="r2", writer="agent:other"),
    ]
    acks = [await broker.log.publish(to, draft) for draft in drafts]
    records = await everything(broker, to)
    assert [r.id for r in records] == [d.id for d in drafts]
    assert [r.sequence for r in records] == [a.sequence for a in acks]


async def test_a_stored_event_is_what_was_drafted(broker: Broker, to: Stretch) -> None:
    before = time.time() * 1000
    ack = await broker.log.publish(to, milestone({"Grüße": "🌍"}, id="e=1:~@", run="run.1", writer="user:Zoë x"[:8]))
    (record,) = await everything(broker, to)
    assert record.offset == Offset(to.segment, ack.sequence)
    assert (record.id, record.type, record.actor, record.run) == ("e=1:~@", "app.test", "user:Zoë", "run.1")
    assert orjson.loads(record.body) == {"type": "app.test", "value": {"Grüße": "🌍"}}
    assert record.parts.kind == "ev"
    assert record.parts.tenant == to.place.tenant
    # The broker's clock may be another machine's.
    assert abs(record.ts - before) < 60_000


async def test_a_delta_comes_back_with_its_text_and_place(broker: Broker, to: Stretch) -> None:
    await broker.log.publish(to, delta('Hel\nlo "x"', run="r/1 ü", at=7, message="m9"))
    (record,) = await everything(broker, to)
    assert orjson.loads(record.body) == {
        "type": "TEXT_MESSAGE_CONTENT",
        "messageId": "m9",
        "delta": 'Hel\nlo "x"',
    }
    event = record.event()
    assert (event.at, event.run, event.actor) == (7, "r/1 ü", WRITER)


async def test_an_id_sent_again_is_stored_once_and_answers_with_the_first_sequence(broker: Broker, to: Stretch) -> None:
    first = await broker.log.publish(to, milestone("x", id="same"))
    await broker.log.publish(to, milestone("between"))
    again = await broker.log.publish(to, milestone("x", id="same"))
    assert again == (first.sequence, True)
    assert [value(r) for r in await everything(broker, to)] == ["x", "between"]


async def test_an_id_sent_again_through_another_connection_is_stored_once(
    broker: Broker, connections: Brokers, to: Stretch
) -> None:
    other = await connections.open()
    acks = await asyncio.gather(
        *(b.log.publish(to, milestone("x", id="same")) for b in (broker, other) for _ in range(5))
    )
    assert len({a.sequence for a in acks}) == 1
    assert sum(not a.duplicate for a in acks) == 1
    assert len(await everything(broker, to)) == 1


async def test_the_same_id_in_another_session_or_another_life_is_another_event(
    broker: Broker, to: Stretch, tenant: str
) -> None:
    elsewhere = await stretch(broker, tenant, "chat-2", to.segment)
    later_life = to._replace(segment=to.segment + 1)
    acks = [await broker.log.publish(where, milestone(id="same")) for where in (to, elsewhere, later_life)]
    assert not any(a.duplicate for a in acks)
    assert len(await everything(broker, to)) == 2
    assert len(await everything(broker, elsewhere)) == 1


async def test_events_published_at_once_are_all_stored_in_one_order_that_every_reader_sees(
    broker: Broker, connections: Brokers, to: Stretch
) -> None:
    other = await connections.open()
    acks = await asyncio.gather(*((broker, other)[n % 2].log.publish(to, milestone(n, id=f"e{n}")) for n in range(200)))
    assert len({a.sequence for a in acks}) == 200
    mine, theirs = await everything(broker, to), await everything(other, to)
    assert [r.offset for r in mine] == [r.offset for r in theirs]
    assert {value(r): r.sequence for r in mine} == {n: a.sequence for n, a in enumerate(acks)}


async def test_sessions_whose_names_begin_alike_do_not_see_each_other(broker: Broker, tenant: str) -> None:
    stretches = [await stretch(broker, tenant, name) for name in ("chat", "chat-1", "chat:1", "Chat", "chat~")]
    for where in stretches:
        await broker.log.publish(where, milestone(where.place.session))
    for where in stretches:
        assert [value(r) for r in await everything(broker, where)] == [where.place.session]


@pytest.mark.parametrize("size", [300 * 1024, 3 * 1024 * 1024])
async def test_a_large_body_comes_back_whole(broker: Broker, to: Stretch, size: int) -> None:
    text = "ä" * (size // 2)
    await broker.log.publish(to, milestone("before"))
    ack = await broker.log.publish(to, milestone(text))
    await broker.log.publish(to, milestone("after"))
    assert [value(r) for r in await everything(broker, to)] == ["before", text, "after"]
    (record,) = [r async for batch in broker.log.read_back(to, before=ack.sequence + 1, limit=1) for r in batch]
    assert value(record) == text
    assert record.type == "app.test"


async def test_a_large_body_sent_again_is_stored_once(broker: Broker, to: Stretch) -> None:
    text = "x" * 400_000
    first = await broker.log.publish(to, milestone(text, id="big"))
    assert await broker.log.publish(to, milestone(text, id="big")) == (first.sequence, True)
    (record,) = await everything(broker, to)
    assert value(record) == text


@runs("I4")
async def test_sessions_whose_names_collide_under_a_short_hash_keep_their_events_apart(
    broker: Broker, tenant: str
) -> None:
    segment = time.time_ns() // 1000
    # 32 bits are no hurdle: of a hundred thousand names one meets another within as many tries.
    made = (f"a{random.randbytes(8).hex()}" for _ in range(100_000))
    names = {crc32(Place(tenant, name).key().encode()): name for name in made}
    while True:
        place = Place(f"{tenant}b", f"v{random.randbytes(8).hex()}")
        found = names.get(crc32(place.key().encode()))
        if found is not None and await broker.log.home(Place(tenant, found)) == await broker.log.home(place):
            break
    for event in ("e1", "e2"):
        for one, session in ((tenant, found), (place.tenant, place.session)):
            ack = await broker.log.publish(await stretch(broker, one, session, segment), milestone(session, id=event))
            assert not ack.duplicate
    assert [value(r) for r in await everything(broker, await stretch(broker, *place, segment))] == [place.session] * 2
