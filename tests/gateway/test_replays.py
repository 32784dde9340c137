"""What was read lately: the same bytes again, and never what was removed meanwhile, nor more than there is room for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric import Fabric, Offset, Session, SessionRecord
from session_fabric.history import Read
from session_fabric.rules.batching import SNAPSHOT_BYTES
from session_fabric.rules.redactions import Redacting
from session_fabric.rules.segments import Segment
from session_fabric_gateway.replays import Key, Piece, Replay, Shelf

from tests.gateway.conftest import Running
from tests.gateway.records import SEGMENT
from tests.gateway.sockets import Client, Frame, greeted
from tests.gateway.test_following import text_of
from tests.support.waiting import eventually

KEY = Key(1, sse=False)
RECORD = SessionRecord(
    tenant="t",
    session="s",
    created=1,
    segments=(Segment(id=SEGMENT, stream="sf", epoch="e", tenant="t", session="s"),),
)


def head(sequence: int) -> Offset:
    return Offset(SEGMENT, sequence)


def piece(upto: int, size: int = 100) -> Piece:
    return Piece(b"x" * size, upto, Read(1, size))


def opened(replay: Replay, record: SessionRecord = RECORD, upto: int = 100) -> int:
    life = replay.open(record, head(upto))
    assert life is not None
    return life


def test_what_one_reader_had_the_next_one_finds() -> None:
    replay = Replay(Shelf())
    replay.keep(opened(replay), KEY, 0, piece(10))
    assert replay.find(opened(replay), KEY, 0) == piece(10)
    assert replay.find(opened(replay), Key(2, sse=False), 0) is None
    assert replay.find(opened(replay), KEY, 10) is None


def test_another_record_is_another_session_s_life() -> None:
    replay = Replay(Shelf())
    before = opened(replay)
    replay.keep(before, KEY, 0, piece(10))
    changed = RECORD.model_copy(update={"floor": (SEGMENT, 5)})
    assert replay.find(opened(replay, changed), KEY, 0) is None
    # Whoever read under the earlier one keeps nothing any more, and finds nothing.
    replay.keep(before, KEY, 0, piece(10))
    assert replay.find(opened(replay, changed), KEY, 0) is None
    assert replay.find(before, KEY, 0) is None


def test_what_is_being_redacted_is_not_kept() -> None:
    replay = Replay(Shelf())
    replay.keep(opened(replay), KEY, 0, piece(10))
    redacting = (Redacting(target="m1", event="redacted-1", since=1),)
    assert replay.open(RECORD.model_copy(update={"redacting": redacting}), head(100)) is None
    assert replay.find(opened(replay), KEY, 0) is None


def test_a_reader_up_to_an_earlier_head_reads_the_log() -> None:
    replay = Replay(Shelf())
    replay.keep(opened(replay, upto=50), KEY, 0, piece(10))
    assert replay.open(RECORD, head(49)) is None
    assert replay.find(opened(replay, upto=51), KEY, 0) == piece(10)


def test_forks_are_read_from_the_log() -> None:
    fork = RECORD.model_copy(update={"segments": (*RECORD.segments, RECORD.segments[0])})
    assert Replay(Shelf()).open(fork, head(100)) is None


def test_of_a_long_session_the_newest_is_kept() -> None:
    replay = Replay(Shelf(most_of_one=4000))
    life = opened(replay)
    for at in range(0, 50, 10):
        replay.keep(life, KEY, at, piece(at + 10, 700))
    assert replay.weight <= 4000
    assert [at for at in range(0, 50, 10) if replay.find(life, KEY, at)] == [10, 20, 30, 40]


def test_what_has_deltas_goes_when_they_are_needed_no_more_and_the_rest_stays() -> None:
    replay = Replay(Shelf())
    life = opened(replay)
    compact = KEY._replace(compact=True)
    replay.keep(life, KEY, 0, piece(10))
    weight = replay.weight
    replay.keep(life, compact, 10, piece(20)._replace(passing=True))
    assert replay.find(life, KEY, 10) is None
    assert replay.find(life, compact, 10) is not None
    replay.pass_by()
    assert replay.find(life, compact, 10) is None
    assert replay.find(life, KEY, 0) == piece(10)
    assert (replay.weight, replay.passed) == (weight, 1)
    # Room is made of what is there, however often something else has been at its place.
    for upto in (20, 21):
        replay.keep(life, compact, 10, piece(upto)._replace(passing=True))
        replay.pass_by()
    assert replay.weight == weight


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 3000)), max_size=80))
def test_all_sessions_together_have_a_bound(kept: list[tuple[int, int, int]]) -> None:
    shelf = Shelf(most_bytes=10_000, most_of_one=5000)
    replays = [Replay(shelf) for _ in range(6)]
    for number, at, size in kept:
        replay = replays[number]
        replay.keep(opened(replay), KEY, at, piece(at + 1, size))
        assert shelf.weight <= 10_000
        assert all(one.weight <= 5000 for one in replays)
        assert shelf.weight == sum(one.weight for one in replays)
        # The one used last is the last to go.
        assert size > 4700 or replay.weight > 0


# --- with a gateway -------------------------------------------------------------------------------


async def filled(agent: Fabric, events: int) -> Session:
    session = agent.session("s1")
    for n in range(events):
        await session.append({"type": "app.n", "n": n, "text": "x" * 400})
    return session


class FromLog:
    """How many events this gateway has read of the session for all its readers."""

    events = 0

    def count(self, read: Read) -> float:
        self.events += read.events
        return 0.0


@asynccontextmanager
async def counting(house: Running) -> AsyncIterator[FromLog]:
    from_log = FromLog()
    async with house.gateway.hub.reading(house.gateway.fabric.view(tenant=house.tenant).session("s1").place) as feed:
        feed.session.counted_by(from_log.count)
        yield from_log


async def came(client: Client, after: str = "start") -> list[int]:
    await client.open("s1", after=after)
    await client.op("live")
    return [event["body"]["n"] for event in client.events if event["type"] == "app.n"]


async def test_who_comes_next_is_given_the_same_out_of_memory(house: Running, agent: Fabric) -> None:
    session = await filled(agent, 400)
    async with (
        counting(house) as log,
        greeted(house.url, house.token()) as first,
        greeted(house.url, house.token(), deltas="compact") as second,
    ):
        assert await came(first) == list(range(400))
        read = log.events
        assert read >= 400
        assert await came(second) == list(range(400))
        assert log.events == read
        assert [e["offset"] for e in first.events] == [e["offset"] for e in second.events]
        await session.append({"type": "app.n", "n": 400})
        for client in (first, second):
            await client.until_events(lambda events: events[-1]["body"].get("n") == 400)
    async with counting(house) as log, greeted(house.url, house.token()) as third:
        assert await came(third) == list(range(401))
        assert log.events <= 1


async def test_who_begins_in_the_middle_reads_the_log_up_to_where_memory_begins(house: Running, agent: Fabric) -> None:
    await filled(agent, 400)
    async with (
        counting(house) as log,
        greeted(house.url, house.token()) as first,
        greeted(house.url, house.token()) as second,
    ):
        await came(first)
        read = log.events
        after = next(e["offset"] for e in first.events if e["body"].get("n") == 99)
        assert await came(second, after) == list(range(100, 400))
        assert log.events - read < 300


async def test_a_record_that_changes_ends_what_is_kept(house: Running, agent: Fabric) -> None:
    session = await filled(agent, 60)
    async with (
        counting(house) as log,
        greeted(house.url, house.token()) as first,
        greeted(house.url, house.token()) as second,
    ):
        await came(first)
        read = log.events
        await session.add_participant("user:bo")
        assert await came(second) == list(range(60))
        assert log.events >= read + 60


FORMS: list[dict[str, Any]] = [{}, {"deltas": "compact"}]


async def late(house: Running, form: dict[str, Any], message: str = "m1") -> tuple[str, list[Frame]]:
    """Come from the beginning; return the text that one has when one is live, and the events."""
    async with greeted(house.url, house.token(), **form) as client:
        await client.open("s1")
        await client.op("live")
        assert form or not any(isinstance(frame, list) for frame in client.frames)
        return text_of(client.events, message), client.events


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_under_way_is_whole_for_each_who_comes(
    house: Running, agent: Fabric, form: dict[str, Any]
) -> None:
    """Out of memory too, and whatever others get, who have deltas spelled otherwise."""
    session = await filled(agent, 60)
    async with (
        session.run("r1", window_s=0) as one,
        session.run("r2", window_s=0) as two,
        one.message("m1") as first,
        two.message("m2") as second,
    ):
        text = other = ""
        for turn in range(4):
            for n in range(20):
                text, other = f"{text}{turn}.{n} ", f"{other}{n}/"
                await first.text(f"{turn}.{n} ")
                await second.text(f"{n}/")
            for form_of_others in (*reversed(FORMS), form, form):
                await settled(session, text)
                assert (await late(house, form_of_others))[0] == text
                assert (await late(house, form_of_others, "m2"))[0] == other
            async with counting(house) as log:
                assert (await late(house, form))[0] == text
                assert not log.events, "it was in memory"


async def settled(session: Session, text: str) -> None:
    """Return when the log has a text."""
    await eventually(lambda: stored_text(session, text))


async def stored_text(session: Session, text: str) -> bool:
    return any(message.content == text for message in (await session.messages()).messages)


@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_that_has_ended_is_not_told_by_tokens_though_it_was_a_moment_ago(
    house: Running, agent: Fabric, form: dict[str, Any]
) -> None:
    session, words = agent.session("s1"), [f"{n} " for n in range(30)]
    async with greeted(house.url, house.token()) as there:
        async with session.run("r1", window_s=0) as run, run.message("m1") as message:
            for word in words:
                await message.text(word)
            await settled(session, "".join(words))
            for _ in range(2):
                text, events = await late(house, form)
                assert text == "".join(words)
                assert any(event["type"] == "TEXT_MESSAGE_CONTENT" for event in events)
            await there.open("s1", after="tail")
        await there.until_events(lambda events: bool(events) and events[-1]["type"] == "RUN_FINISHED")
    text, events = await late(house, form)
    assert text == "".join(words)
    assert not [event for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]


async def test_who_joins_an_open_answer_gets_its_newest_snapshot_and_no_more_deltas_than_it_leaves_out(
    house: Running, agent: Fabric
) -> None:
    session = agent.session("s1")
    async with session.run("r1", window_s=0) as run, run.message("m0") as short:
        await short.text("short")
        async with run.message("m1") as message:
            for n in range(40):
                await message.text(f"{n:03d}" + "x" * 997)
                if n % 8 == 7:
                    await settled(session, "".join(f"{k:03d}" + "x" * 997 for k in range(n + 1)))
            text, events = await late(house, {"deltas": "compact"})
    assert text == "".join(f"{n:03d}" + "x" * 997 for n in range(40))
    snapshots = [event["body"]["message"]["id"] for event in events if event["type"] == "message.snapshot"]
    assert sorted(snapshots) == ["m0", "m1"]
    deltas = [event["body"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert sum(len(delta["delta"]) for delta in deltas if delta["messageId"] == "m1") <= SNAPSHOT_BYTES + 1000
