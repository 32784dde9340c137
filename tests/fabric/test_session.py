"""Sessions as participants use them: append, fork, delete, list."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric import Fabric, Offset, Session
from session_fabric.words.errors import (
    Forbidden,
    IdConflict,
    InvalidEvent,
    InvalidName,
    InvalidRequest,
    OffsetForeign,
    OffsetGone,
    SessionExists,
    SessionGone,
    SessionNotFound,
    TooLarge,
)
from session_fabric.words.events import TEXT_CONTENT

from tests.support.sessions import Fabrics, follow_until, has, note, said, stored, text_of, types, values


async def test_the_first_append_makes_the_session(session: Session) -> None:
    with pytest.raises(SessionNotFound):
        await session.record(create=False)
    appended = await session.append(said("Hello"))
    assert not appended.duplicate
    assert (await session.record(create=False)).state == "open"
    assert types(await stored(session)) == ["session.created", "message.user"]


async def test_two_who_make_a_session_at_once_get_the_same(fabrics: Fabrics) -> None:
    sessions = [(await fabrics.open()).session("chat-1") for _ in range(4)]
    made = await asyncio.gather(*(session.create() for session in sessions))
    assert [new for _, new in made].count(True) == 1
    assert len({record.segments for record, _ in made}) == 1


async def test_an_event_sent_again_is_stored_once(session: Session) -> None:
    first = await session.append(said("Hello"), id="e1")
    again = await session.append(said("Hello"), id="e1")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.offset == first.offset
    assert types(await stored(session)).count("message.user") == 1


async def test_key_order_and_spacing_make_no_other_body(session: Session) -> None:
    first = await session.append(b'{"type": "app.note", "a": 1, "b": 2}', id="e1")
    again = await session.append(b'{"b":2,"a":1,"type":"app.note"}', id="e1")
    assert again == (first.offset, True)


async def test_an_id_sent_with_another_body_is_refused_and_names_the_first(session: Session) -> None:
    first = await session.append(note(1), id="e1")
    with pytest.raises(IdConflict) as refused:
        await session.append(note(2), id="e1")
    assert refused.value.facts["offset"] == str(first.offset)
    with pytest.raises(IdConflict):
        await session.append(said("the same id for another kind of event"), id="e1")
    assert values(await stored(session)) == [1]


async def test_ids_are_a_sessions_own(fabric: Fabric) -> None:
    appended = [await fabric.session(name).append(note(name), id="e1") for name in ("a", "b")]
    assert [a.duplicate for a in appended] == [False, False]


async def test_an_id_is_free_again_in_a_sessions_next_life(session: Session) -> None:
    await session.append(note("before"), id="e1")
    await session.delete()
    again = await session.append(note("after"), id="e1")
    assert not again.duplicate
    assert values(await stored(session)) == ["after"]


async def test_a_retry_with_since_finds_the_event_without_the_brokers_memory(session: Session) -> None:
    before = (await session.append(note("before"))).offset
    first = await session.append(said("Hello"), id="e1", since=before)
    await session.append(said("something else", "m2"))
    again = await session.append(said("Hello"), id="e1", since=before)
    assert again == (first.offset, True)
    with pytest.raises(IdConflict):
        await session.append(said("Hallo"), id="e1", since=before)


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b'"text"', b"{}", b'{"type":""}', b'{"type":7}', b'{"type":"a b"}', b'{"type":"x\\n"}'],
)
async def test_a_body_that_is_no_event_is_refused(session: Session, body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        await session.append(body)


async def test_a_body_that_json_cannot_say_is_refused(session: Session) -> None:
    with pytest.raises(InvalidEvent):
        await session.append({"type": "app.note", "value": object()})


async def test_a_body_over_the_limit_is_refused(session: Session) -> None:
    with pytest.raises(TooLarge) as refused:
        await session.append(note("x" * (8 * 1024 * 1024)))
    assert refused.value.facts["limit"] == 8 * 1024 * 1024


@pytest.mark.parametrize("name", ["", ".", "a.b", "a b", "*", ">", "a\n", "é", "-a", "a" * 129, "a/b", "a\x00"])
async def test_a_name_of_another_form_is_refused(fabric: Fabric, name: str) -> None:
    with pytest.raises(InvalidName):
        fabric.session(name)


@pytest.mark.parametrize("id", ["", "a b", "a\n", "é", "a" * 129, "*", "a/b"])
async def test_an_event_id_of_another_form_is_refused(session: Session, id: str) -> None:
    with pytest.raises(InvalidName):
        await session.append(note(1), id=id)


@pytest.mark.needs_rights
async def test_users_cannot_write_what_runs_and_the_fabric_write(fabric: Fabric, session: Session) -> None:
    user = fabric.view(participant="user:ada", gateway=True).session(session.name)
    for type in ("RUN_STARTED", "TEXT_MESSAGE_CONTENT", "message.completed", "control.accepted", "session.created"):
        with pytest.raises(Forbidden):
            await user.append({"type": type})
    for type in ("CUSTOM", "app.rated"):
        await user.append({"type": type})


@pytest.mark.needs_rights
async def test_an_event_names_who_wrote_it(fabric: Fabric, session: Session) -> None:
    await fabric.view(participant="user:ada", gateway=True).session(session.name).append(note(1))
    await fabric.view(participant="operator:max").session(session.name).append(note(2))
    assert [e.actor for e in await stored(session) if e.type == "app.note"] == ["user:ada", "operator:max"]


async def test_names_of_every_allowed_character_work(fabric: Fabric) -> None:
    session = fabric.view(participant="user:Ada Lovelace".replace(" ", ".") + "@ex+ample/é").session("A_b:c@d~e-9")
    await session.append(note("x"))
    events = await stored(session)
    assert values(events) == ["x"]
    assert events[-1].actor == "user:Ada.Lovelace@ex+ample/é"


@pytest.mark.needs_rights
async def test_tenants_do_not_see_each_other(fabric: Fabric, session: Session) -> None:
    await session.append(note("ours"))
    theirs = fabric.view(tenant=fabric.tenant + "x")
    with pytest.raises(SessionNotFound):
        await theirs.session(session.name).record(create=False)
    await theirs.session(session.name).append(note("theirs"))
    assert values(await stored(session)) == ["ours"]
    assert [r.session for r in (await theirs.sessions()).records] == [session.name]


async def test_sessions_are_listed_newest_first_in_pages(fabric: Fabric) -> None:
    names = [f"chat-{n}" for n in range(7)]
    for name in names:
        await fabric.session(name).create()
    page = await fabric.sessions(limit=3)
    listed = [r.session for r in page.records]
    while page.next is not None:
        page = await fabric.sessions(limit=3, cursor=page.next)
        assert 0 < len(page.records) <= 3
        listed += [r.session for r in page.records]
    assert sorted(listed) == names
    created = [(await fabric.session(name).record()).created for name in listed]
    assert created == sorted(created, reverse=True)
    with pytest.raises(InvalidRequest):
        await fabric.sessions(limit=0)


async def test_a_session_keeps_its_labels(fabric: Fabric, fabrics: Fabrics) -> None:
    await fabric.session("chat-1").create({"topic": "wine"})
    other = await fabrics.open()
    record, made = await other.session("chat-1").create({"topic": "beer"})
    assert not made
    assert record.labels == {"topic": "wine"}


# --- forks --------------------------------------------------------------------------------------------


async def test_a_fork_shares_the_past_and_goes_its_own_way(session: Session) -> None:
    await session.append(note("shared"))
    at = (await session.append(note("last"))).offset
    await session.append(note("not in the fork"))
    fork = await session.fork(at, "fork")
    await fork.append(note("fork"))
    await session.append(note("source"))
    assert values(await stored(fork)) == ["shared", "last", "fork"]
    assert values(await stored(session)) == ["shared", "last", "not in the fork", "source"]
    assert (await fork.record()).source == session.name


async def test_a_shared_offset_is_valid_in_both_and_any_other_is_foreign(session: Session) -> None:
    shared = (await session.append(note("shared"))).offset
    fork = await session.fork(shared, "fork")
    own = (await fork.append(note("fork"))).offset
    later = (await session.append(note("source"))).offset
    assert values(await stored(fork, shared)) == ["fork"]
    assert values(await stored(session, shared)) == ["source"]
    with pytest.raises(OffsetForeign):
        await stored(session, own)
    with pytest.raises(OffsetForeign):
        await stored(fork, later)


async def test_a_fork_of_a_fork_reads_through_both(session: Session) -> None:
    first = (await session.append(note(1))).offset
    fork = await session.fork(first, "fork")
    second = (await fork.append(note(2))).offset
    await fork.append(note("not shared"))
    grandchild = await fork.fork(second, "grandchild")
    await grandchild.append(note(3))
    assert values(await stored(grandchild)) == [1, 2, 3]
    assert values(await stored(grandchild, first)) == [2, 3]
    page = await grandchild.history(limit=100)
    assert values(page.events) == [1, 2, 3]


async def test_a_fork_at_an_older_part_leaves_the_younger_out(session: Session) -> None:
    first = (await session.append(note(1))).offset
    await session.append(note("x"))
    fork = await session.fork((await session.head()), "fork")
    await fork.append(note("y"))
    again = await fork.fork(first, "again")
    assert values(await stored(again)) == [1]


async def test_a_fork_cannot_begin_where_nothing_is_yet(session: Session) -> None:
    at = (await session.append(note(1))).offset
    with pytest.raises(OffsetForeign):
        await session.fork(Offset(at.segment, at.sequence + 1000))
    with pytest.raises(OffsetForeign):
        await session.fork(Offset(at.segment + 1, at.sequence))
    assert (await session.record()).forks == ()


async def test_a_fork_cannot_begin_below_what_retention_removed(fabric: Fabric, session: Session) -> None:
    first = (await session.append(note(1))).offset
    floor = (await session.append(note(2))).offset
    await session.append(note(3))
    record = await session.record()
    await fabric._shared.directory.change(record.place, lambda r: r.model_copy(update={"floor": tuple(floor)}))
    with pytest.raises(OffsetGone):
        await session.fork(first)
    fork = await session.fork(await session.head())
    with pytest.raises(OffsetGone):
        await stored(fork, first)


async def test_a_forks_name_must_be_free(session: Session, fabric: Fabric) -> None:
    await fabric.session("taken").append(note(1))
    at = (await session.append(note(1))).offset
    with pytest.raises(SessionExists):
        await session.fork(at, "taken")
    with pytest.raises(SessionExists):
        await session.fork(at, session.name)


async def test_a_fork_in_mid_answer_stays_as_it_is_when_the_answer_ends(session: Session, fabrics: Fabrics) -> None:
    writing = await fabrics.open()
    async with writing.session(session.name).run("r1") as run, run.message("m1") as message:
        await message.text("x" * 9000)
        await message.text("tail of the answer")
        await follow_until(session, lambda events: has(TEXT_CONTENT)(events) and text_of(events).endswith("answer"))
        fork = await session.fork(await session.head(), "fork")
        then = await fork.messages()
    await writing.close()  # which purges the deltas
    assert [m.content for m in then.messages] == ["x" * 9000]
    assert (await fork.messages()).messages == then.messages
    assert text_of(await stored(session)) == "x" * 9000 + "tail of the answer"


async def test_a_fork_carries_on_with_runs_of_its_own(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("first")
    fork = await session.fork(await session.head(), "fork")
    async with fork.run("r1") as run:
        await run.text("second")
    assert [m.content for m in (await fork.messages()).messages] == ["first", "second"]
    assert types(await stored(fork)).count("RUN_STARTED") == 2
    assert types(await stored(session)).count("RUN_STARTED") == 1


# --- deletion -----------------------------------------------------------------------------------------


async def test_a_deleted_session_is_gone_and_its_offsets_foreign_to_the_next_life(session: Session) -> None:
    old = (await session.append(note("before"))).offset
    await session.delete()
    with pytest.raises(SessionNotFound):
        await session.head()
    await session.append(note("after"))
    assert values(await stored(session)) == ["after"]
    with pytest.raises(OffsetForeign):
        await stored(session, old)


async def test_deleting_what_is_not_there_says_so(session: Session) -> None:
    with pytest.raises(SessionNotFound):
        await session.delete()


async def test_every_participant_hears_of_a_deletion(fabrics: Fabrics, session: Session) -> None:
    await session.append(note(1))
    other = (await fabrics.open("user:ada")).session(session.name)
    began = asyncio.Event()

    async def follow() -> None:
        async for event in other.follow():
            if event.type == "app.note":
                began.set()

    async def delete() -> None:
        await began.wait()
        await session.delete()

    async with asyncio.timeout(10):
        followed, _ = await asyncio.gather(follow(), delete(), return_exceptions=True)
    assert isinstance(followed, SessionGone)


async def test_a_deleted_source_stays_readable_through_its_forks_alone(session: Session, fabric: Fabric) -> None:
    await session.append(note("past"))
    head = await session.head()
    first, second = [await session.fork(head, name) for name in ("fork-1", "fork-2")]
    await session.delete()
    for call in (session.head(), session.append(note(1)), session.history(), session.delete()):
        with pytest.raises(SessionGone):
            await call
    assert sorted(r.session for r in (await fabric.sessions()).records) == ["fork-1", "fork-2"]
    await first.delete()
    assert values(await stored(second)) == ["past"]
    with pytest.raises(SessionGone):
        await session.head()
    await second.delete()
    with pytest.raises(SessionNotFound):
        await session.head()


async def test_a_deleted_source_goes_with_the_last_fork_of_its_forks(session: Session, fabric: Fabric) -> None:
    await session.append(note("past"))
    fork = await session.fork(await session.head(), "fork")
    grandchild = await fork.fork(await fork.head(), "grandchild")
    await session.delete()
    await fork.delete()
    assert values(await stored(grandchild)) == ["past"]
    await grandchild.delete()
    for gone in (session, fork, grandchild):
        with pytest.raises(SessionNotFound):
            await gone.head()


async def test_a_run_of_a_deleted_session_is_told_so(session: Session) -> None:
    with pytest.raises(SessionGone):
        async with session.run() as run:
            await run.text("x")
            await session.delete()
            while True:
                await run.text("y")
                await asyncio.sleep(0)
