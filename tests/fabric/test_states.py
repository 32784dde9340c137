"""Shared documents: current values with revisions, beside the log."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from session_fabric import Fabric, Session, State
from session_fabric.rules import states as rules
from session_fabric.states import BUCKET
from session_fabric.words.errors import (
    Conflict,
    FabricError,
    Forbidden,
    InvalidName,
    InvalidRequest,
    LimitExceeded,
    SessionGone,
    SessionNotFound,
    TooLarge,
)

from tests.support.servers import NatsNode
from tests.support.sessions import Fabrics, leftovers, stored, types
from tests.support.waiting import eventually


async def test_a_document_that_was_put_is_got_by_everybody(fabrics: Fabrics) -> None:
    ada, eve = await fabrics.open("user:ada"), await fabrics.open("user:eve")
    put = await ada.session("s").state("plan").put({"steps": ["a", "b"]})
    assert (put.document, put.body, put.by) == ("plan", {"steps": ["a", "b"]}, "user:ada")
    assert put.ts is not None
    assert put.ts > 1_600_000_000_000
    assert await eve.session("s").state("plan").get() == put


async def test_where_there_is_no_document_nothing_is_got(session: Session) -> None:
    assert await session.state("plan").get() is None
    assert await session.state("plan").history() == []
    with pytest.raises(SessionNotFound):
        await session.record(create=False)


async def test_the_first_document_makes_the_session(session: Session) -> None:
    await session.state("plan").put({})
    assert types(await stored(session)) == ["session.created"]


async def test_a_stale_revision_is_refused_with_what_is_there(fabrics: Fabrics) -> None:
    ada, eve = await fabrics.open("user:ada"), await fabrics.open("user:eve")
    mine, hers = ada.session("s").state("plan"), eve.session("s").state("plan")
    first = await mine.put({"n": 1}, 0)
    second = await hers.put({"n": 2}, first.revision)
    for stale in (0, first.revision, second.revision + 1):
        for write in (mine.put({"n": 3}, stale), mine.patch({"n": 3}, stale)):
            with pytest.raises(Conflict) as refused:
                await write
            assert refused.value.current == second
            assert refused.value.facts["revision"] == second.revision
            assert "n" not in refused.value.facts
    with pytest.raises(Conflict):
        await mine.delete(first.revision)
    assert await mine.get() == second


async def test_a_revision_of_what_is_not_there_is_refused_with_zero(session: Session) -> None:
    for write in (session.state("plan").put({}, 7), session.state("plan").patch({}, 7)):
        with pytest.raises(Conflict) as refused:
            await write
        assert (refused.value.facts["revision"], refused.value.current) == (0, None)


async def test_of_two_who_put_at_one_revision_one_wins_and_the_other_gets_what_is_there(fabrics: Fabrics) -> None:
    documents = [(await fabrics.open(who)).session("s").state("plan") for who in ("user:ada", "user:eve")]
    revision = 0
    for number in range(5):
        tries = [document.put({"by": at, "n": number}, revision) for at, document in enumerate(documents)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        (won,) = [o for o in outcomes if isinstance(o, State)]
        (lost,) = [o for o in outcomes if isinstance(o, Conflict)]
        assert lost.current == won
        revision = won.revision


async def test_patches_of_many_at_once_lose_nothing(fabrics: Fabrics) -> None:
    sessions = [(await fabrics.open(f"user:u{n}")).session("s") for n in range(3)]
    await asyncio.gather(*(sessions[n % 3].state("plan").patch({"done": {f"k{n}": n}}) for n in range(12)))
    state = await sessions[0].state("plan").get()
    assert state is not None
    assert state.body == {"done": {f"k{n}": n for n in range(12)}}


async def test_puts_of_many_at_once_all_succeed_and_one_is_left(fabrics: Fabrics) -> None:
    sessions = [(await fabrics.open(f"user:u{n}")).session("s") for n in range(3)]
    put = await asyncio.gather(*(sessions[n % 3].state("plan").put({"n": n}) for n in range(12)))
    assert await sessions[0].state("plan").get() == max(put, key=lambda state: state.revision)


async def test_a_patch_changes_what_it_names_and_removes_what_is_null(session: Session) -> None:
    plan = session.state("plan")
    await plan.patch({"a": {"b": 1, "c": 2}, "d": 3})
    patched = await plan.patch({"a": {"b": None}, "e": [1, None]})
    assert patched.body == {"a": {"c": 2}, "d": 3, "e": [1, None]}
    assert await plan.get() == patched


async def test_a_deleted_document_is_not_there_and_can_be_made_anew(session: Session) -> None:
    plan = session.state("plan")
    first = await plan.put({"n": 1})
    deleted = await plan.delete(first.revision)
    assert (deleted.body, deleted.by) == (None, "agent:writer")
    assert await plan.get() is None
    assert await session.documents() == []
    with pytest.raises(Conflict) as refused:
        await plan.put({"n": 2}, first.revision)
    assert refused.value.facts["revision"] == 0
    again = await plan.put({"n": 3}, 0)
    assert again.revision > deleted.revision
    assert await plan.get() == again


async def test_deleting_what_is_not_there_does_no_harm(session: Session) -> None:
    with pytest.raises(SessionNotFound):
        await session.state("plan").delete()
    await session.create()
    assert (await session.state("plan").delete()).revision == 0


async def test_the_history_has_the_newest_eight_versions_newest_first(session: Session) -> None:
    plan = session.state("plan")
    for n in range(9):
        await plan.put({"n": n})
    await plan.delete()
    history = await plan.history()
    assert [state.body and state.body["n"] for state in history] == [None, 8, 7, 6, 5, 4, 3, 2]
    assert [state.by for state in history] == ["agent:writer"] * 8
    revisions = [state.revision for state in history]
    assert revisions == sorted(set(revisions), reverse=True)


async def test_documents_are_listed_by_name(session: Session) -> None:
    for name in ("plan", "a.b", "notes"):
        await session.state(name).put({"name": name})
    listed = await session.documents()
    assert [(state.document, state.body) for state in listed] == [(n, {"name": n}) for n in ("a.b", "notes", "plan")]
    assert await session.state("a.b").get() == listed[0]


@pytest.mark.parametrize("body", [None, [], "text", 7])
async def test_a_body_that_is_no_object_is_refused(session: Session, body: Any) -> None:
    for write in (session.state("plan").put(body), session.state("plan").patch(body)):
        with pytest.raises(InvalidRequest, match="JSON object"):
            await write


async def test_a_body_that_is_too_large_is_refused_also_when_a_patch_makes_it_so(session: Session) -> None:
    half = "x" * (rules.MOST_BYTES // 2)
    with pytest.raises(TooLarge):
        await session.state("plan").put({"a": half, "b": half})
    await session.state("plan").put({"a": half})
    with pytest.raises(TooLarge) as refused:
        await session.state("plan").patch({"b": half})
    assert refused.value.facts["limit"] == 256 * 1024


async def test_the_fabrics_own_documents_are_not_written(session: Session) -> None:
    tools = session.state("_tools")
    for write in (tools.put({}), tools.patch({}), tools.delete()):
        with pytest.raises(Forbidden):
            await write
    with pytest.raises(InvalidRequest):
        session.state("_other")
    with pytest.raises(InvalidName):
        session.state("a b")


async def test_a_session_has_a_hundred_documents_at_most(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_DOCUMENTS", 3)
    for n in range(3):
        await session.state(f"d{n}").put({})
    with pytest.raises(LimitExceeded) as refused:
        await session.state("d3").put({})
    assert refused.value.facts["limit"] == 3
    await session.state("d0").put({"again": True})
    await session.state("d1").delete()
    await session.state("d3").put({})


async def test_the_oldest_deletions_are_forgotten_when_there_are_many(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_NAMES", 4)
    for n in range(6):
        await session.state(f"d{n}").put({})
        await session.state(f"d{n}").delete()
    kept = [n for n in range(6) if await session.state(f"d{n}").history()]
    assert kept == [2, 3, 4, 5]
    await session.state("d0").put({"n": 1}, 0)
    assert [state.document for state in await session.documents()] == ["d0"]


@pytest.mark.needs_rights
async def test_what_a_stranger_wrote_there_is_no_document_and_can_be_written_over(
    fabric: Fabric, session: Session
) -> None:
    bucket = fabric.broker.bucket(BUCKET)
    await session.create()
    await bucket.put(f"{session.place.key()}.plan", b"no JSON")
    await bucket.put(f"{session.place.key()}.a.b", b"{}")
    assert await session.state("plan").get() is None
    assert await session.documents() == []
    await session.state("plan").put({"n": 1}, 0)
    assert [state.body for state in await session.documents()] == [{"n": 1}]


# --- the session's end --------------------------------------------------------------------------------


async def test_documents_go_with_their_session(fabrics: Fabrics) -> None:
    fabric, other = await fabrics.open(), await fabrics.open("user:ada")
    session = fabric.session("s")
    await session.state("plan").put({"n": 1})
    await session.state("notes").put({})
    await session.state("notes").delete()
    await session.seen(await session.head())
    await session.delete()
    with pytest.raises(SessionNotFound):
        await session.documents()
    for bucket in (BUCKET, "sf-cursors"):
        assert await fabric.broker.bucket(bucket).entries(session.place.key()) == []
    again = other.session("s")
    await again.create()
    assert await again.state("plan").get() is None
    assert await again.state("plan").history() == []
    assert await again.documents() == []


async def test_a_deletion_leaves_nothing_of_documents_at_the_broker(real: Fabric) -> None:
    session = real.session("s")
    for n in range(3):
        await session.state("plan").put({"n": n})
    await session.state("notes").put({})
    await session.state("notes").delete()
    await session.seen(await session.head(), device="d1")
    await session.delete()
    assert await leftovers(real, "s") == {}


async def test_a_deleted_session_with_forks_has_no_documents_any_more(session: Session) -> None:
    await session.state("plan").put({"n": 1})
    fork = await session.fork(await session.head(), "fork")
    assert await fork.documents() == []
    await session.delete()
    for call in (session.state("plan").put({}), session.state("plan").get(), session.documents()):
        with pytest.raises(SessionGone):
            await call


async def test_what_is_written_while_the_session_is_deleted_is_not_left_behind(fabrics: Fabrics) -> None:
    writer, other = await fabrics.open(), await fabrics.open()
    outcomes: list[str] = []

    async def write(session: Session) -> None:
        try:
            while True:
                await session.state("plan").patch({"n": 1})
        except FabricError as error:
            outcomes.append(error.code)

    for number in range(5):
        session = writer.session(f"s{number}")
        await session.state("plan").put({})
        # It keeps the record at hand, and hears of the deletion when it hears of it.
        task = asyncio.create_task(write(session))
        await other.session(f"s{number}").delete()
        await task
    assert set(outcomes) <= {"session_gone", "session_not_found"}
    for number in range(5):
        place = writer.session(f"s{number}").place
        found = await writer.broker.bucket(BUCKET).entries(place.key())
        record = await writer._shared.directory.find(place, fresh=True)
        assert record is not None or found == []


# --- watching -----------------------------------------------------------------------------------------


async def test_a_watcher_gets_the_current_value_then_each_change(fabrics: Fabrics) -> None:
    mine, hers = (await fabrics.open()).session("s"), (await fabrics.open("user:ada")).session("s")
    await mine.state("plan").put({"n": 0})
    async with aclosing(hers.state("plan").watch()) as changes:
        seen = [await anext(changes)]
        for n in range(1, 4):
            await mine.state("plan").put({"n": n})
            await mine.state("other").put({"n": n})
            seen.append(await anext(changes))
        await mine.state("plan").delete()
        seen.append(await anext(changes))
    assert [state.body and state.body["n"] for state in seen] == [0, 1, 2, 3, None]
    assert {state.document for state in seen} == {"plan"}


async def test_a_watcher_of_what_is_not_there_waits_for_it(session: Session) -> None:
    async with aclosing(session.state("plan").watch()) as changes:
        first = asyncio.ensure_future(anext(changes))
        await eventually(lambda: _exists(session))
        put = await session.state("plan").put({"n": 1})
        assert await first == put


async def _exists(session: Session) -> bool:
    try:
        await session.record(create=False)
    except SessionNotFound:
        return False
    return True


async def test_a_watcher_of_all_documents_gets_each(session: Session) -> None:
    await session.state("a").put({"n": 1})
    await session.state("gone").put({})
    await session.state("gone").delete()
    await session.state("b").put({"n": 2})
    async with aclosing(session.watch_documents()) as changes:
        seen = [await anext(changes), await anext(changes)]
        await session.state("a").delete()
        seen.append(await anext(changes))
    assert [(state.document, state.body) for state in seen] == [("a", {"n": 1}), ("b", {"n": 2}), ("a", None)]


async def test_a_watcher_that_does_not_read_gets_the_newest_value(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_fabric.kept.MOST_WAITING", 4)
    await session.state("plan").put({"n": 0})
    async with aclosing(session.watch_documents()) as changes:
        await anext(changes)
        for n in range(1, 30):
            await session.state("plan").put({"n": n})
            await session.state(f"d{n % 3}").put({"n": n})
        seen: dict[str, Any] = {}
        async with asyncio.timeout(10):
            while seen != {"plan": {"n": 29}, "d0": {"n": 27}, "d1": {"n": 28}, "d2": {"n": 29}}:
                state = await anext(changes)
                seen[state.document] = state.body


async def test_a_watcher_ends_with_its_session(fabrics: Fabrics) -> None:
    mine, hers = (await fabrics.open()).session("s"), (await fabrics.open("user:ada")).session("s")
    await mine.state("plan").put({})
    async with aclosing(hers.state("plan").watch()) as changes, aclosing(hers.state("_seen").watch()) as seen:
        await anext(changes)
        await anext(seen)
        await mine.delete()
        for watcher in (changes, seen):
            with pytest.raises(SessionGone):
                async with asyncio.timeout(10):
                    async for _ in watcher:
                        pass


async def test_a_watcher_misses_nothing_while_its_broker_is_away(own_server: NatsNode, tenant: str) -> None:
    async with (
        Fabric.connect(own_server.url, tenant=tenant, streams=1) as one,
        Fabric.connect(own_server.url, tenant=tenant, streams=1) as other,
    ):
        await one.session("s").state("plan").put({"n": 1})
        await one.session("s").state("notes").put({})
        async with aclosing(other.session("s").watch_documents()) as changes:
            assert [(await anext(changes)).document for _ in range(2)] == ["plan", "notes"]
            # What is written before it has found its broker again is in nobody's ear.
            for n in range(2, 5):
                own_server.kill()
                await own_server.restart()
                await eventually(lambda: one.broker.connected)
                put = await one.session("s").state("plan").put({"n": n})
                await one.session("s").state("notes").delete()
                seen = {}
                async with asyncio.timeout(20):
                    while len(seen) < (2 if n == 2 else 1):
                        state = await anext(changes)
                        seen[state.document] = state
                assert seen["plan"] == put
                if n == 2:
                    assert seen["notes"].body is None
