"""Following: what is stored, then what happens, each event once and in order, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import cast

import pytest
from session_fabric import Event, Fabric, Offset, Session
from session_fabric import following as following_room
from session_fabric.follow import Follower, RecordsOnly
from session_fabric.memory import MemoryBroker
from session_fabric.pace import MOST_AT_ONCE, Pace
from session_fabric.words.errors import OffsetForeign, OffsetGone, SessionGone
from session_fabric.words.events import TEXT_CONTENT
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record, message_id

from tests.support.servers import NatsNode
from tests.support.sessions import (
    Fabrics,
    Following,
    api,
    deltas,
    ended,
    exact,
    follow_until,
    has,
    note,
    stored,
    text_of,
    types,
    values,
)
from tests.support.waiting import eventually


def noted(count: int) -> Callable[[list[Event]], bool]:
    return lambda events: len(values(events)) >= count


async def test_a_follower_gets_what_is_stored_and_then_what_happens(session: Session) -> None:
    for n in range(5):
        await session.append(note(n))
    async with aclosing(session.follow()) as events:
        got = [await anext(events) for _ in range(6)]
        for n in range(5, 10):
            await session.append(note(n))
        got += [await anext(events) for _ in range(5)]
    assert types(got)[0] == "session.created"
    assert values(exact(got)) == list(range(10))


async def test_a_follower_from_an_offset_gets_what_is_behind_it(session: Session) -> None:
    offsets = [(await session.append(note(n))).offset for n in range(6)]
    events = await follow_until(session, lambda e: len(e) == 3, after=offsets[2])
    assert values(events) == [3, 4, 5]


async def test_a_follower_from_the_tail_gets_only_what_happens(session: Session) -> None:
    await session.append(note("before"))
    async with aclosing(session.follow("tail")) as events:
        next_event = asyncio.ensure_future(anext(events))
        await eventually(lambda: session._parts.common.pace.followers == 1)
        while not next_event.done():  # until it is live
            await session.append(note("after"))
            await asyncio.sleep(0.01)
        assert values([await next_event]) == ["after"]


async def test_a_live_answer_reaches_a_follower_whole(session: Session) -> None:
    await session.create()
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(follow_until(session, ended("r1")))
        async with session.run("r1", window_s=0.005) as run:
            for n in range(200):
                await run.text(f"é{n}😀 ")
                await asyncio.sleep(0)
    text = "".join(f"é{n}😀 " for n in range(200))
    assert text_of(exact(follower.result())) == text


async def test_a_large_body_arrives_whole_and_in_its_place(session: Session) -> None:
    await session.create()
    bodies = ["a", "b" * 300_000, "c", "d" * 1_500_000, "e"]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        follower = group.create_task(follow_until(session, lambda e: len(values(e)) == len(bodies)))
        for body in bodies:
            await session.append(note(body))
    assert values(exact(follower.result())) == bodies
    assert values(await stored(session)) == bodies


# --- late joiners -------------------------------------------------------------------------------------


async def test_a_late_joiner_pays_by_messages_and_gets_the_same_text(fabric: Fabric, session: Session) -> None:
    # Deltas go ten seconds after their run has ended: however long all this takes, they are there to be counted.
    fabric._shared.janitor._grace_s = 3600.0
    texts = []
    for n in range(100):
        async with session.run(f"r{n}", window_s=0) as run, run.message(f"m{n}") as message:
            pieces = [f"{n}.{token} " for token in range(300)]
            texts.append("".join(pieces))
            for at in range(0, 300, 30):
                await message.text("".join(pieces[at : at + 30]))
                await asyncio.sleep(0)
    events = exact(await follow_until(session, ended("r99")))
    assert len(events) < 500
    for n in range(100):
        assert text_of(events, f"m{n}") == texts[n]
    assert len(await stored(session, deltas="all")) > 500


async def test_a_late_joiner_in_mid_answer_gets_the_text_so_far_in_few_events(session: Session) -> None:
    text = ""
    async with session.run("r1", window_s=0) as run:
        for n in range(600):
            piece = f"token number {n:06d}, "
            text += piece
            await run.text(piece)
            await asyncio.sleep(0)
        await follow_until(session, lambda e: has(TEXT_CONTENT)(e) and text_of(e) == text)
        everything = await stored(session, deltas="all")
        late = await follow_until(session, lambda e: has(TEXT_CONTENT)(e) and text_of(e) == text)
        assert len(text) > 8 * 1024
        assert "message.snapshot" in types(late)
        assert len(late) < len(everything)
        assert len("".join(deltas(late))) < 2 * 8 * 1024
    assert text_of(await stored(session)) == text


async def test_a_reader_who_resumes_among_deltas_that_are_gone_gets_what_covers_them(
    session: Session, fabrics: Fabrics
) -> None:
    writing = await fabrics.open()
    async with writing.session(session.name).run("r1", window_s=0) as run:
        for n in range(50):
            await run.text(f"{n} ")
            await asyncio.sleep(0)
        before = await follow_until(session, has(TEXT_CONTENT))
    await writing.close()  # purges the deltas
    after = await follow_until(session, ended("r1"), after=before[-1].offset)
    assert TEXT_CONTENT not in types(after)
    assert text_of([*before, *after]) == "".join(f"{n} " for n in range(50))


async def test_a_reader_who_does_not_keep_up_is_caught_up(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following_room, "MOST_QUEUED_EVENTS", 20)
    await session.append(note(0))
    got: list[Event] = []
    async with asyncio.timeout(20), aclosing(session.follow()) as events:
        async for event in events:
            got.append(event)
            count = len(values(got))
            if count in (1, 100):  # two times a burst of which the queue holds a part
                await asyncio.gather(*(session.append(note(count + n)) for n in range(99)))
            if count == 199:
                break
    assert sorted(values(got)) == list(range(199))
    exact(got)


async def test_a_reader_who_does_not_keep_up_from_the_tail_is_caught_up(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following_room, "MOST_QUEUED_EVENTS", 20)
    await session.create()
    got: list[Event] = []

    async def follow() -> None:
        async with aclosing(session.follow("tail")) as events:
            async for event in events:
                got.append(event)
                await asyncio.sleep(0.001)
                if values([event]) == ["last"]:
                    return

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(follow())
        probe = 0
        while not got:
            await session.append(note(f"probe {(probe := probe + 1)}"))
            await asyncio.sleep(0.01)
        await asyncio.gather(*(session.append(note(n)) for n in range(200)))
        await session.append(note("last"))
    exact(got)
    assert sorted(v for v in values(got) if isinstance(v, int)) == list(range(200))


# --- offsets ------------------------------------------------------------------------------------------


async def move_floor(fabric: Fabric, session: Session, floor: Offset) -> None:
    """Do as retention does: first the record, then the purge."""
    record = await session.record()
    record = await fabric._shared.directory.change(
        record.place, lambda r: r.model_copy(update={"floor": (floor.segment, floor.sequence)})
    )
    await fabric.broker.log.purge(record.stretch, upto=floor.sequence)


async def test_an_offset_below_what_retention_removed_is_gone_and_says_where_to_go_on(
    fabric: Fabric, session: Session
) -> None:
    offsets = [(await session.append(note(n))).offset for n in range(5)]
    await move_floor(fabric, session, offsets[2])
    for read in (stored(session, offsets[1]), follow_until(session, noted(1), after=offsets[1])):
        with pytest.raises(OffsetGone) as gone:
            await read
        assert gone.value.facts["resync"] == "start"
    with pytest.raises(OffsetGone):
        await session.history(before=offsets[0])
    assert values(await stored(session, offsets[2])) == [3, 4]
    assert values(await stored(session, "start")) == [3, 4]


async def test_a_floor_that_moves_during_a_read_is_found_out(fabric: Fabric, session: Session) -> None:
    offsets = [(await session.append(note(n))).offset for n in range(600)]
    with pytest.raises(OffsetGone):
        async with aclosing(session.read(offsets[0])) as batches:
            await anext(batches)
            await move_floor(fabric, session, offsets[590])
            async for _ in batches:
                pass


async def test_an_offset_of_another_session_or_life_is_foreign(fabric: Fabric, session: Session) -> None:
    theirs = (await fabric.session("other").append(note(1))).offset
    earlier = (await session.append(note(1))).offset
    await session.delete()
    await session.append(note(2))
    for offset in (theirs, earlier):
        with pytest.raises(OffsetForeign):
            await follow_until(session, noted(1), after=offset)
        with pytest.raises(OffsetForeign):
            await session.history(before=offset)


async def test_a_fork_is_followed_through_its_past_into_its_own_part(session: Session) -> None:
    first = (await session.append(note(1))).offset
    await session.append(note(2))
    fork = await session.fork(await session.head(), "fork")
    await session.append(note("not in the fork"))

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        whole = group.create_task(follow_until(fork, noted(3)))
        part = group.create_task(follow_until(fork, noted(2), after=first))
        await fork.append(note(3))
    assert values(exact(whole.result())) == [1, 2, 3]
    assert values(exact(part.result())) == [2, 3]


# --- strangers' events --------------------------------------------------------------------------------


async def test_what_a_stranger_stored_harms_nobody(real: Fabric) -> None:
    session = real.session("chat-1")
    await session.append(note("before"))
    place = Place(real.tenant, session.name)
    broker = api(real)
    segment = (await session.head()).segment
    bad: list[tuple[bytes, dict[str, str]]] = [
        (b"no json \xff", {"Sf-Type": "app.note"}),
        (b"[1,2]", {"Sf-Type": "app.note"}),
        (b"", {}),
        (b'{"type":"app.note","value":1}', {"Sf-Type": "app.note", "Sf-Blob": "garbage"}),
        (b'{"type":"app.note","value":2}', {"Sf-Type": "app.note", "Sf-Delta": "garbage"}),
        (b'{"type":"app.note","value":3}', {"Sf-Type": "app.note", "Sf-Blob": "9999999 0123 nothing-there"}),
        (b'"text"', {"Sf-Type": "TEXT_MESSAGE_CONTENT", "Sf-Delta": "0 m1"}),
    ]

    async def store(n: int, payload: bytes, headers: dict[str, str]) -> None:
        subject = place.stored("ev", "_", "agent:stranger")
        headers = {"Nats-Msg-Id": message_id(place, segment, f"bad-{n}"), **headers}
        await broker._requests.one(subject, payload, headers=headers, timeout_s=5)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        live = group.create_task(follow_until(session, lambda e: values(e[-1:]) == ["after"]))
        for n, (payload, headers) in enumerate(bad):
            await store(n, payload, headers)
        await session.append(note("after"))
    events = exact(live.result())
    assert [e.offset for e in await stored(session)] == [e.offset for e in events]
    assert len(events) == len(bad) + 3
    assert [e.body["type"] for e in events[2:5]] == ["fabric.malformed"] * 3
    assert [e.type for e in await stored(session)] == [e.type for e in events]
    await session.history()
    await session.messages()


async def test_who_follows_from_the_tail_asks_for_the_head_once(real: Fabric) -> None:
    session = real.session("chat-1")
    await session.append(note(0))
    connection = real.broker._connection  # type: ignore[attr-defined]
    asked: list[bytes] = []
    await connection.tap_now("$JS.API.STREAM.MSG.GET.>", lambda _s, _r, _h, body: asked.append(body))
    follower = session._parts.follower(RecordsOnly())
    following = asyncio.create_task(follower.run())
    await follower.ready()
    await connection.rtt()
    following.cancel()
    assert len([body for body in asked if f".{real.tenant}.chat-1".encode() in body]) == 1


# --- a broker that goes away --------------------------------------------------------------------------


@pytest.fixture
async def memory() -> AsyncIterator[tuple[MemoryBroker, Fabric, Fabric]]:
    """A broker whose connection can be cut, with a fabric on it, and another on a connection that stays."""
    broker = MemoryBroker()
    async with await Fabric.over(broker) as cut, await Fabric.over(broker.beside()) as other:
        yield broker, cut, other


async def test_what_happened_while_the_connection_was_away_is_caught_up(
    memory: tuple[MemoryBroker, Fabric, Fabric],
) -> None:
    broker, cut, other = memory
    writer = other.session("chat-1")
    await writer.append(note(0))
    follower = asyncio.create_task(follow_until(cut.session("chat-1"), noted(41)))
    for round in range(4):
        for n in range(5):
            await writer.append(note(10 * round + n + 1))
        broker.disconnect()
        for n in range(5):
            await writer.append(note(10 * round + n + 6))
        broker.reconnect()
    assert values(exact(await follower)) == list(range(41))


async def test_a_session_deleted_while_the_connection_was_away_ends_its_followers(
    memory: tuple[MemoryBroker, Fabric, Fabric],
) -> None:
    broker, cut, other = memory
    await other.session("chat-1").append(note(0))
    began = asyncio.Event()

    async def follow() -> None:
        async for event in cut.session("chat-1").follow():
            if event.type == "app.note":
                began.set()

    task = asyncio.create_task(follow())
    await began.wait()
    broker.disconnect()
    await other.session("chat-1").delete()
    broker.reconnect()
    with pytest.raises(SessionGone):
        async with asyncio.timeout(10):
            await task


async def test_a_follower_begun_while_the_broker_is_away_waits_for_it(
    memory: tuple[MemoryBroker, Fabric, Fabric],
) -> None:
    broker, cut, other = memory
    await other.session("chat-1").append(note(0))
    broker.disconnect()
    follower = asyncio.create_task(follow_until(cut.session("chat-1"), noted(1)))
    await asyncio.sleep(0)
    broker.reconnect()
    assert values(await follower) == [0]


async def test_followers_and_writers_survive_a_broker_that_is_killed(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, streams=1) as fabric:
        session = fabric.session("chat-1")
        await session.create()
        followings = [Following(session) for _ in range(3)]
        tasks = [asyncio.create_task(f.until(ended("r1"), 30)) for f in followings]
        text = "".join(f"{n} " for n in range(3000))
        async with session.run("r1", window_s=0.002) as run:
            for n in range(3000):
                await run.text(f"{n} ")
                if n in (1000, 2000):
                    await eventually(lambda: all(len(f.events) > 3 for f in followings))
                    own_server.kill()
                    await own_server.restart()
        for task in tasks:
            assert text_of(exact(await task)) == text
        assert text_of(await stored(session)) == text


class Due:
    """What `Pace` sees of a follower that something has come to."""

    def __init__(self, order: list[str], name: str) -> None:
        self._order = order
        self._name = name

    def flush(self) -> None:
        self._order.append(self._name)
        if self._name == "fails":
            raise ValueError


async def test_followers_tell_together_what_came_together() -> None:
    pace, order = Pace(), list[str]()
    for name in ("a", "b"):
        pace.due(cast(Follower, Due(order, name)))
    pace.heard()
    assert order == ["a", "b"]
    await asyncio.sleep(0)
    assert order == ["a", "b"]
    pace.due(cast(Follower, Due(order, "c")))
    await asyncio.sleep(0)
    assert order[2:] == ["c"]


async def test_where_much_comes_together_it_is_gathered_until_the_end_of_the_tick() -> None:
    pace, order = Pace(), list[str]()
    for number in range(MOST_AT_ONCE + 1):
        pace.due(cast(Follower, Due(order, f"{number}")))
    pace.heard()
    assert not order
    await asyncio.sleep(0)
    assert len(order) == MOST_AT_ONCE + 1


async def test_a_follower_that_fails_does_not_silence_the_others() -> None:
    pace, order = Pace(), list[str]()
    for name in ("a", "fails", "b", "c"):
        pace.due(cast(Follower, Due(order, name)))
    with pytest.raises(ValueError):
        pace.tell()
    await asyncio.sleep(0)
    assert order == ["a", "fails", "b", "c"]


class Noted(RecordsOnly):
    """Notes what is told."""

    def __init__(self) -> None:
        self.seen: list[Record] = []

    def records(self, batch: Sequence[Record]) -> None:
        self.seen += batch


async def test_what_comes_from_a_broker_does_not_wait_for_the_end_of_the_tick(
    broker_url: str | None, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broker_url is None:
        return  # in memory each event comes by itself
    async with Fabric.connect(broker_url, tenant=tenant, participant="user:ada") as fabric:
        session, sink = fabric.session("s1"), Noted()
        await session.append(note(0))
        follower = session.follower(sink)
        following = asyncio.create_task(follower.run())
        await follower.ready()
        # Nor is it a check that brings it.
        monkeypatch.setattr(Pace, "due", lambda pace, follower: pace._due.append(follower))
        monkeypatch.setattr(follower, "_mark", lambda: None)
        await session.append(note(1))
        await eventually(lambda: sink.seen)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
