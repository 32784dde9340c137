"""Retention: the beginning of a session goes, readers are told, and what somebody needs stays."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing

import pytest
from session_fabric import Fabric, Offset, Retention, Session
from session_fabric.memory import MemoryBroker
from session_fabric.metrics import PrometheusMetrics
from session_fabric.ports import Wanted
from session_fabric.redacting import redaction
from session_fabric.trimmer import Trimmer
from session_fabric.trimming import Looked, Trimming, Weighed
from session_fabric.words.errors import OffsetGone, SessionGone, SessionHeld, SessionNotFound

from tests.support.sessions import Fabrics, follow_until, note, said, stored, types, values
from tests.support.waiting import eventually

# The tests may only ask the fabric where they are about users of it; retention is the fabric's own work.
pytestmark = pytest.mark.needs_rights
LATER_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def trimming(fabric: Fabric) -> Trimming:
    return Trimming(fabric._shared._below, fabric._shared.directory, grace_ms=0)


async def trim(
    session: Session, fabric: Fabric, *, at_ms: int = LATER_MS, before: Weighed | None = None, **limits: int
) -> Looked:
    """Trim as if it were an hour later."""
    record = await session.record()
    return await trimming(fabric).trim(record, Retention(**limits), now_ms() + at_ms, before)


async def numbers(session: Session, upto: int) -> list[Offset]:
    return [(await session.append(note(n))).offset for n in range(upto)]


async def test_the_newest_events_are_kept_and_what_was_before_is_gone(fabric: Fabric, session: Session) -> None:
    offsets = await numbers(session, 10)
    looked = await trim(session, fabric, max_events=3)
    assert looked.floor == offsets[6]
    assert values(await stored(session)) == [7, 8, 9]
    assert (await session.record()).floor_offset == offsets[6]
    assert not (await session.record()).owed
    with pytest.raises(OffsetGone) as gone:
        await stored(session, offsets[2])
    assert gone.value.facts["resync"] == "start"
    # What is left is weighed already, and nothing has to go.
    assert looked.weighed is not None
    assert looked.weighed.weight.events == 3
    again = await trim(session, fabric, before=looked.weighed, max_events=3)
    assert again.weighed == looked.weighed


async def test_by_age_what_is_older_goes(fabric: Fabric, session: Session) -> None:
    await numbers(session, 5)
    assert (await trim(session, fabric, at_ms=0, max_age_s=60)).oldest_ms is not None
    assert values(await stored(session)) == [0, 1, 2, 3, 4]
    await trim(session, fabric, max_age_s=60)
    assert await stored(session) == []
    await session.append(note("new"))
    assert values(await stored(session)) == ["new"]


async def test_by_bytes_the_newest_that_fit_are_kept_and_large_bodies_go_with_their_events(
    fabric: Fabric, session: Session
) -> None:
    await session.append(note("x" * 400_000))
    await session.append(note("y" * 400_000))
    await session.append(note("z"))
    await trim(session, fabric, max_bytes=500_000)
    assert [value[:1] for value in values(await stored(session))] == ["y", "z"]
    assert len(await fabric.broker.blobs(session.place)) == 1


async def test_an_answer_under_way_stays_whole_with_what_follows_it(fabric: Fabric, session: Session) -> None:
    await numbers(session, 5)
    async with session.run("r1") as run:
        await run.text("So far")
        await session.append(note("behind"))
        looked = await trim(session, fabric, max_events=1)
        assert values(await stored(session)) == ["behind"]
        assert looked.oldest_ms is not None
        await run.text(", and on.")
    messages = (await session.messages()).messages
    assert [(m.content, m.status) for m in messages] == [("So far, and on.", "completed")]
    await trim(session, fabric, max_events=1)
    assert (await session.messages()).messages == []


async def test_messages_on_either_side_of_a_cut_are_whole(fabric: Fabric, session: Session) -> None:
    for n in range(4):
        await session.append(said(f"Question {n}", f"q{n}"))
        async with session.run(f"r{n}") as run, run.message(f"a{n}") as message:
            await message.text(f"Answer {n}")
    before = (await session.messages()).messages
    await trim(session, fabric, max_events=9)
    after = (await session.messages()).messages
    assert 0 < len(after) < len(before)
    assert [(m.id, m.content, m.status) for m in after] == [(m.id, m.content, m.status) for m in before[-len(after) :]]


async def test_who_has_the_floor_has_it_still(fabrics: Fabrics) -> None:
    operator = (await fabrics.open()).view(participant="operator:eve")
    session = operator.session("chat-1")
    await session.append(note(0))
    await session.floor().take("mine")
    await numbers(session, 5)
    await trim(session, operator, max_events=1)
    assert (await session.floor().state()).participant == "operator:eve"
    assert "handoff.taken" not in types(await stored(session))
    await session.floor().give_back()
    assert (await session.floor().state()).participant is None


async def test_what_a_fork_needs_stays_until_it_has_gone(fabric: Fabric, session: Session) -> None:
    offsets = await numbers(session, 6)
    fork = await session.fork(offsets[3], "fork-1")
    await trim(session, fabric, max_events=1)
    assert values(await stored(session)) == [5]
    assert values(await stored(fork)) == [0, 1, 2, 3]
    assert (await session.record()).owed
    with pytest.raises(OffsetGone):
        await session.fork(offsets[2])
    # The fork lets go of a part of it: so much of the source goes.
    await trim(fork, fabric, max_events=3)
    assert values(await stored(fork)) == [2, 3]
    head = await fabric.broker.log.head((await session.record()).stretch)
    left = [r async for rs in fabric.broker.log.read((await session.record()).stretch, after=0, upto=head) for r in rs]
    assert left[0].offset > offsets[1]
    await fork.delete()
    assert await trimming(fabric).pay(session.place)
    left = [r async for rs in fabric.broker.log.read((await session.record()).stretch, after=0, upto=head) for r in rs]
    assert [r.offset for r in left] == [offsets[5]]


async def test_a_fork_begins_where_its_source_does(fabric: Fabric, session: Session) -> None:
    offsets = await numbers(session, 6)
    await trim(session, fabric, max_events=3)
    fork = await session.fork(offsets[4], "fork-1")
    assert values(await stored(fork)) == [3, 4]
    assert (await fork.record()).floor_offset == offsets[2]


async def test_what_is_held_is_not_trimmed_nor_deleted(fabric: Fabric, session: Session) -> None:
    await numbers(session, 5)
    await session.hold("A letter of 3 May", "case-17")
    await trim(session, fabric, max_events=1)
    assert values(await stored(session)) == [0, 1, 2, 3, 4]
    with pytest.raises(SessionHeld) as held:
        await session.delete()
    assert (held.value.facts["hold"], held.value.facts["by"]) == ("case-17", fabric.participant)
    await fabric.hold("All of it", "case-18")
    assert [hold.name for hold in (await session.retention()).tenant_holds] == ["case-18"]
    assert await session.release("case-17") == ()
    await trim(session, fabric, max_events=1)
    assert values(await stored(session)) == [0, 1, 2, 3, 4]
    with pytest.raises(SessionHeld):
        await session.delete()
    await fabric.release("case-18")
    await session.delete()


async def test_a_hold_that_comes_between_the_floor_and_the_removal_keeps_what_is_there(
    fabric: Fabric, session: Session
) -> None:
    await numbers(session, 5)
    record = await session.record()
    head = await session.head()
    owing = {"floor": tuple(head), "owed": True}
    await fabric._shared.directory.change(record.place, lambda r: r.model_copy(update=owing))
    await session.hold("Wait")
    assert not await trimming(fabric).pay(session.place)
    assert await fabric.broker.log.head(record.stretch) == head.sequence
    await session.release()
    assert await trimming(fabric).pay(session.place)
    assert await fabric.broker.log.newest(record.stretch, Wanted("ev")) is None


# --- readers ------------------------------------------------------------------------------------------


async def test_who_reads_from_the_start_while_it_is_removed_is_told(fabric: Fabric, session: Session) -> None:
    await numbers(session, 700)
    with pytest.raises(OffsetGone) as gone:
        async with aclosing(session.read("start")) as batches:
            await anext(batches)
            await trim(session, fabric, max_events=10)
            async for _ in batches:
                pass
    assert gone.value.facts["resync"] == "start"
    assert values(await stored(session)) == list(range(690, 700))


async def test_a_live_reader_does_not_notice_that_the_past_goes(fabric: Fabric, session: Session) -> None:
    await numbers(session, 20)
    got: list[object] = []
    async with asyncio.timeout(30), aclosing(session.follow()) as events:
        async for event in events:
            got += values([event])
            if got[-1:] == [19]:
                await session.append(note("live"))
            if got[-1:] == ["live"]:
                # Verified up to here: that takes a check, which comes within a second or two.
                break
    assert got == [*range(20), "live"]


async def test_a_reader_whose_place_is_removed_while_it_is_away_is_told_when_it_is_back(
    fabric: Fabric, session: Session
) -> None:
    offsets = await numbers(session, 20)
    await trim(session, fabric, max_events=3)
    with pytest.raises(OffsetGone):
        await follow_until(session, lambda events: False, after=offsets[5], timeout_s=10)


# --- the trimmer --------------------------------------------------------------------------------------


async def running(fabric: Fabric, stack: asyncio.TaskGroup) -> asyncio.Task[None]:
    # Below nothing: an event of this very millisecond may go too.
    trimmer = Trimmer(fabric._shared.common, fabric._shared._below, grace_ms=-1, turn_s=2)
    return stack.create_task(trimmer.run())


async def test_sessions_are_kept_to_what_is_said_of_them_and_of_their_tenant(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()
    spared, closed, small = (fabric.session(name) for name in ("spared", "closed", "small"))
    for session in (spared, closed, small):
        await numbers(session, 5)
    async with asyncio.TaskGroup() as group:
        trimmer = await running(fabric, group)
        await small.set_retention(max_events=2, closed_s=None)
        await fabric.set_retention(closed_s=0)
        await closed.close()
        await small.close()

        async def gone() -> bool:
            try:
                await closed.record(create=False)
            except (SessionNotFound, SessionGone):
                return True
            return False

        await eventually(gone, timeout_s=30)

        async def trimmed() -> bool:
            return (await small.record()).floor != (0, 0) and not (await small.record()).owed

        await eventually(trimmed, timeout_s=30)
        trimmer.cancel()
    assert values(await stored(spared)) == [0, 1, 2, 3, 4]
    kept = await small.retention()
    assert kept.retention == Retention(max_events=2)
    assert kept.tenant == {"closed_s": 0}


async def test_what_another_left_between_the_floor_and_the_removal_is_removed(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()
    session = fabric.session("chat-1")
    offsets = await numbers(session, 5)
    record = await session.record()
    owing = {"floor": tuple(offsets[2]), "owed": True}
    await fabric._shared.directory.change(record.place, lambda r: r.model_copy(update=owing))
    async with asyncio.TaskGroup() as group:
        trimmer = await running(fabric, group)

        async def paid() -> bool:
            return not (await session.record()).owed

        await eventually(paid, timeout_s=30)
        trimmer.cancel()
    batches = fabric.broker.log.read(record.stretch, after=0, upto=offsets[4].sequence)
    assert [r.offset async for records in batches for r in records] == offsets[3:]


async def test_another_takes_its_turn_when_the_trimmer_has_gone(fabrics: Fabrics) -> None:
    first, second = await fabrics.open(), await fabrics.open()
    session = second.session("chat-1")
    await numbers(session, 5)
    async with asyncio.TaskGroup() as group:
        one = await running(first, group)
        two = await running(second, group)
        turns = second._shared._below.bucket("sf-tenants")

        async def taken() -> bool:
            return await turns.get("_turn.trimmer") is not None

        await eventually(taken, timeout_s=30)
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        await session.set_retention(max_events=1)

        async def trimmed() -> bool:
            try:
                return values(await stored(session)) == [4]
            except OffsetGone:  # read while it went
                return False

        await eventually(trimmed, timeout_s=30)
        two.cancel()


async def test_who_has_the_turn_finishes_redactions_that_were_cut_off_without_keys(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()
    session = fabric.session("chat-1")
    await session.append(said("My card is 4111."))
    parts, found = session._parts, await session.redactable("m1")
    await redaction._say(parts, await session.record(), found, "x")

    async def pending() -> bool:
        return bool((await parts.directory.load(session.place, fresh=True)).redacting)

    assert await pending()
    # As it looks when whoever began it has been gone for a while.
    await parts.directory.change(
        session.place,
        lambda r: r.model_copy(update={"redacting": tuple(one.model_copy(update={"since": 0}) for one in r.redacting)}),
    )
    async with asyncio.TaskGroup() as group:
        trimmer = await running(fabric, group)

        async def done() -> bool:
            return not await pending()

        await eventually(done, timeout_s=30)
        trimmer.cancel()
    assert (await session.redactable("m1")).events == 0
    assert (await session.messages()).messages[0].redacted


async def test_who_has_the_turn_counts_what_it_removes_and_nobody_else_does() -> None:
    broker, counts = MemoryBroker(), (PrometheusMetrics(), PrometheusMetrics())
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(await Fabric.over(broker, participant="agent:a", metrics=metrics))
            for metrics in counts
        ]

        def value(number: int, name: str, **labels: str) -> float:
            return counts[number].registry.get_sample_value(f"session_fabric_{name}", labels) or 0.0

        small, closed = one.session("small"), one.session("closed")
        for session in (small, closed):
            await numbers(session, 5)
        async with asyncio.TaskGroup() as group:
            having = await running(one, group)
            await eventually(lambda: value(0, "retention_turn") == 1)
            waiting = await running(two, group)
            await small.set_retention(max_events=2)
            await eventually(lambda: value(0, "retention_looks_total", outcome="trimmed") == 1)
            # The record of how it began, and three of five.
            assert value(0, "purged_events_total", reason="retention") == 4
            await eventually(lambda: value(0, "retention_sessions") == 1)
            await closed.set_retention(closed_s=0)
            await closed.close()
            await eventually(lambda: value(0, "retention_looks_total", outcome="deleted") == 1)
            assert value(0, "purged_events_total", reason="erased") == 7
            assert value(1, "retention_turn") == value(1, "retention_sessions") == 0
            having.cancel()
            await eventually(lambda: value(1, "retention_turn") == 1)
            await eventually(lambda: value(1, "retention_sessions") == 1)
            assert value(0, "retention_turn") == value(0, "retention_sessions") == 0
            assert value(1, "purged_events_total", reason="retention") == 0
            waiting.cancel()


async def test_what_is_redacted_is_counted() -> None:
    metrics = PrometheusMetrics()
    async with await Fabric.over(MemoryBroker(), participant="agent:a", metrics=metrics) as fabric:
        session = fabric.session("s1")
        await session.append(said("Hello"))
        await session.redact("m1", reason="x")
    labels = {"reason": "redacted"}
    assert metrics.registry.get_sample_value("session_fabric_purged_events_total", labels) == 1


async def test_a_session_that_changes_all_the_time_is_noted_down_once(fabric: Fabric, session: Session) -> None:
    await numbers(session, 1)
    await session.set_retention(max_age_s=86_400)
    trimmer = Trimmer(fabric._shared.common, fabric._shared._below)
    records = fabric._shared._below.bucket("sf-sessions")
    for number in range(50):
        await session.create({"n": str(number)})
        # A server of the embedded kind is shared: others' tests have sessions on it.
        for entry in await records.entries():
            trimmer._take(entry)
    assert [place for place in trimmer._known if place.tenant == session.place.tenant] == [session.place]
    assert len(trimmer._due) == len(trimmer._known)
