"""Hearing events as they are stored."""

from __future__ import annotations

import asyncio
from functools import partial

from session_fabric.ports import Broker, Stretch
from session_fabric.words.wire import Record

from tests.support.brokers import Brokers
from tests.support.events import claim, collect, delta, everything, milestone, stretch, value
from tests.support.waiting import eventually


async def test_a_listener_hears_each_event_once_in_order_as_it_is_stored(
    broker: Broker, connections: Brokers, to: Stretch
) -> None:
    heard: list[Record] = []
    other = await connections.open()
    listening = await other.log.listen(to, heard.append)
    await other.log.head(to)
    for n in range(50):
        await broker.log.publish(to, milestone(n) if n % 3 else delta("x", run="r1", at=n))
    await eventually(lambda: len(heard) == 50)
    stored = await everything(broker, to)
    assert [r.sequence for r in heard] == [r.sequence for r in stored]
    for live, kept in zip(heard, stored, strict=True):
        assert live.event() == kept.event()
        assert live.subject == kept.subject
        assert live.parts == kept.parts
    await listening.close()


async def test_each_live_event_names_its_predecessor_on_its_subject(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    before = await broker.log.publish(to, milestone("before"))
    listening = await broker.log.listen(to, heard.append)
    for n in range(12):
        await broker.log.publish(to, milestone(n, writer=f"agent:{n % 2}") if n % 3 else delta("x", run="r1"))
    await eventually(lambda: len(heard) == 12)
    assert before.sequence > 0
    last: dict[str, int] = {}
    for record in heard:
        assert record.previous == last.get(record.subject, 0)
        last[record.subject] = record.sequence
    await listening.close()


async def test_a_subject_with_history_names_its_last_event_as_predecessor(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    before = await broker.log.publish(to, milestone("before"))
    listening = await broker.log.listen(to, heard.append)
    await broker.log.publish(to, claim("r1"))
    await broker.log.publish(to, milestone("after"))
    await eventually(lambda: len(heard) == 2)
    assert [r.previous for r in heard] == [0, before.sequence]
    await listening.close()


async def test_an_event_stored_after_listen_returned_and_the_head_was_asked_is_heard(
    broker: Broker, connections: Brokers, tenant: str
) -> None:
    writer = await connections.open()
    for n in range(40):
        to = await stretch(broker, tenant, f"chat-{n}")
        heard: list[Record] = []
        listening = await broker.log.listen(to, heard.append)
        await broker.log.head(to)  # in a cluster, another node may hear of the interest only with this
        await writer.log.publish(to, milestone(n))
        await eventually(partial(bool, heard), 3)
        await listening.close()


async def test_refused_and_repeated_events_are_not_heard(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    listening = await broker.log.listen(to, heard.append)
    for _ in range(3):
        await broker.log.publish(to, milestone("once", id="same"))
    await broker.log.publish(to, milestone("end"))
    await eventually(lambda: [value(r) for r in heard] == ["once", "end"])
    await listening.close()


async def test_a_listener_of_a_kind_hears_no_other(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    listening = await broker.log.listen(to, heard.append, kinds=("ev",))
    await broker.log.publish(to, delta("x", run="r1"))
    await broker.log.publish(to, claim("r1"))
    await broker.log.publish(to, milestone("x"))
    await eventually(lambda: len(heard) == 1)
    assert heard[0].parts.kind == "ev"
    await listening.close()


async def test_a_listener_of_several_kinds_hears_them_in_the_order_of_the_stream(
    broker: Broker, connections: Brokers, to: Stretch
) -> None:
    heard: list[Record] = []
    other = await connections.open()
    listening = await other.log.listen(to, heard.append, kinds=("own", "in", "ev"))
    await other.log.head(to, kinds=("own", "in", "ev"))
    wanted: list[int] = []
    for n in range(60):
        if n % 4 == 3:
            await broker.log.publish(to, delta("x", run="r1", at=n))
            continue
        draft = [milestone(n), claim(f"r{n}"), milestone(n, kind="in", name="pool")][n % 4]
        wanted.append((await broker.log.publish(to, draft)).sequence)
    await eventually(lambda: len(heard) >= len(wanted))
    assert [record.sequence for record in heard] == wanted
    await listening.close()
    await broker.log.publish(to, claim("after"))
    still: list[Record] = []
    again = await other.log.listen(to, still.append)
    await other.log.head(to)
    await broker.log.publish(to, milestone("end"))
    await eventually(lambda: still)
    assert len(heard) == len(wanted)
    await again.close()


async def test_a_listener_hears_its_own_session_only(broker: Broker, to: Stretch, tenant: str) -> None:
    heard: list[Record] = []
    listening = await broker.log.listen(to, heard.append)
    for where in (
        await stretch(broker, tenant, "chat-2"),
        await stretch(broker, tenant, "chat"),
        await stretch(broker, tenant + "x"),
    ):
        await broker.log.publish(where, milestone("theirs"))
    await broker.log.publish(to, milestone("mine"))
    await eventually(lambda: [value(r) for r in heard] == ["mine"])
    await listening.close()


async def test_two_listeners_name_offsets_under_their_own_segments(broker: Broker, to: Stretch) -> None:
    one: list[Record] = []
    two: list[Record] = []
    other = to._replace(segment=to.segment + 7)
    listenings = [await broker.log.listen(to, one.append), await broker.log.listen(other, two.append)]
    ack = await broker.log.publish(to, milestone("x"))
    await eventually(lambda: one and two)
    assert one[0].offset == (to.segment, ack.sequence)
    assert two[0].offset == (to.segment + 7, ack.sequence)
    for listening in listenings:
        await listening.close()


async def test_nothing_is_heard_after_close(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    still: list[Record] = []
    listening = await broker.log.listen(to, heard.append)
    other = await broker.log.listen(to, still.append)
    await broker.log.publish(to, milestone("before"))
    await eventually(lambda: len(heard) == 1)
    await listening.close()
    await listening.close()
    await broker.log.publish(to, milestone("after"))
    await eventually(lambda: len(still) == 2)
    assert len(heard) == 1
    await other.close()


async def test_a_large_body_is_heard_as_a_claim_check(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    listening = await broker.log.listen(to, heard.append)
    draft = milestone("x" * 300_000)
    await broker.log.publish(to, draft)
    await eventually(lambda: len(heard) == 1)
    blob = heard[0].blob
    assert blob is not None
    assert blob.size == len(draft.body)
    assert await broker.get_blob(to.place, blob.name) == draft.body
    await listening.close()


async def test_what_is_read_up_to_the_head_and_heard_from_then_on_is_everything(
    broker: Broker, connections: Brokers, to: Stretch
) -> None:
    other = await connections.open()
    heard: list[Record] = []
    written = 0

    async def write() -> None:
        nonlocal written
        while len(heard) < 50:
            await broker.log.publish(to, milestone(written))
            written += 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        await eventually(lambda: written >= 50, every_s=0)
        listening = await other.log.listen(to, heard.append)
        head = await other.log.head(to)
        read = await collect(other.log.read(to, after=0, upto=head))
        await writing
    last = await broker.log.head(to)
    await eventually(lambda: heard[-1].sequence == last)
    assert [value(r) for r in [*read, *(r for r in heard if r.sequence > head)]] == list(range(written))
    await listening.close()
