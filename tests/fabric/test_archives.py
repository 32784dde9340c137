"""A session exported and made a session again."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_fabric import Fabric, RunFailed, Session
from session_fabric.exporting import Previous
from session_fabric.importing import verify
from session_fabric.memory import MemoryBroker
from session_fabric.words.errors import Conflict, Corrupt, Forbidden, InvalidRequest, SessionExists
from session_fabric.words.positions import Offset

from tests.support.sessions import Fabrics, note, said, stored, types

pytestmark = pytest.mark.needs_rights


async def exported(session: Session, **options: Any) -> list[bytes]:
    return [line async for line in session.export(**options)]


async def lively(session: Session) -> None:
    """Have much of what a session may hold happen in it."""
    await session.append(said("Grüß Gott\n", "m1"))
    async with session.run("r1") as run:
        await run.reasoning("Hm.")
        async with run.message("a1") as message:
            await message.text("Long " * 4000)
        await (await run.tool("search", {"q": "z"})).result("found")
    with pytest.raises(RunFailed):
        async with session.run("r2") as run:
            await run.text("I was ")
            raise RunFailed("no")
    await session.edit("m1", "Hello", id="m2")
    await session.append(note("x" * 400_000))
    await session.append(b'{ "type" : "app.spaced", "n": 1.50, "big": 123456789012345678901 }')
    await session.state("plan").put({"step": 1})
    await session.seen(await session.head())
    async with session.run("r3"):
        pass


def seen(events: list[Any]) -> list[Any]:
    return [(e.id, e.type, e.actor, e.run, e.ts) for e in events if e.at is None and not e.type.startswith("TEXT_")]


async def folded(session: Session) -> list[dict[str, Any]]:
    return [message.plain() for message in (await session.messages()).messages]


async def test_an_export_becomes_the_same_session_again(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()
    session = fabric.session("chat-1")
    await lively(session)
    lines = await exported(session, cursors=True)
    verified = verify(lines)
    assert (verified.end["documents"], verified.end["cursors"]) == (1, 1)
    operator = fabric.view(participant="operator:ann")
    record, made = await operator.import_session("chat-2", lambda: lines)
    assert made
    copy = fabric.session("chat-2")
    assert await folded(copy) == await folded(session)
    events = await stored(copy)
    assert seen(events[:-1]) == seen(await stored(session))
    assert events[-1].type == "session.imported"
    assert events[-1].actor == "operator:ann"
    assert record.created == (await session.record()).created
    assert record.state == "open"
    state = await copy.state("plan").get()
    assert state is not None
    assert state.body == {"step": 1}
    again = verify(await exported(copy, cursors=True))
    assert again.end["content"] == verified.end["content"]
    assert again.end["events"] == verified.end["events"]
    await copy.append(said("And on it goes.", "m9"))
    assert (await folded(copy))[-1]["content"] == "And on it goes."


async def test_the_same_file_again_changes_nothing_and_another_ones_name_is_taken(
    fabric: Fabric, session: Session
) -> None:
    await session.append(note(1))
    lines = await exported(session)
    await fabric.import_session("copy", lambda: lines)
    before = await stored(fabric.session("copy"))
    _, made = await fabric.import_session("copy", lambda: lines)
    assert not made
    assert await stored(fabric.session("copy")) == before
    with pytest.raises(SessionExists):
        await fabric.import_session("chat-1", lambda: lines)
    await session.append(note(2))
    longer = await exported(session)
    with pytest.raises(SessionExists):
        await fabric.import_session("copy", lambda: longer)


async def test_an_import_that_was_cut_off_is_finished_by_the_next(fabric: Fabric, session: Session) -> None:
    for n in range(30):
        await session.append(note(n))
    lines = await exported(session)

    class Cut(Exception):
        pass

    reads = 0

    def twice() -> Any:
        nonlocal reads
        reads += 1
        for number, line in enumerate(lines):
            if reads == 2 and number == 20:
                raise Cut
            yield line

    with pytest.raises(Cut):
        await fabric.import_session("copy", twice)
    copy = fabric.session("copy")
    assert (await copy.record()).state == "closed"
    await session.append(note(30))
    longer = await exported(session)
    with pytest.raises(SessionExists, match="whose import from another file was cut off"):
        await fabric.import_session("copy", lambda: longer)
    _, made = await fabric.import_session("copy", lambda: lines)
    assert made
    assert seen((await stored(copy))[:-1]) == seen(await stored(session))[:-1]


async def test_an_export_goes_on_where_another_ended(fabric: Fabric, session: Session) -> None:
    await session.append(note(1))
    first = verify(await exported(session))
    await session.append(note(2))
    lines = await exported(session, previous=Previous(first.head, Offset.parse(first.end["head"])))
    second = verify(lines)
    assert second.manifest["previous"] == first.head
    assert second.end["events"] == 1
    with pytest.raises(InvalidRequest, match="continues"):
        await fabric.import_session("copy", lambda: lines)


async def test_a_signed_export_says_whose_it_is_and_cannot_lose_its_signature(session: Session) -> None:
    await session.append(note(1))
    key = Ed25519PrivateKey.generate()
    lines = await exported(session, key=key)
    assert verify(lines).signed_by == key.public_key().public_bytes_raw().hex()
    with pytest.raises(Corrupt, match="signature is missing"):
        verify(lines[:-1])


async def test_what_was_under_way_has_ended_in_an_import(fabric: Fabric, session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("So far")
        lines = await exported(session)
    await fabric.import_session("copy", lambda: lines)
    (found,) = await fabric.session("copy").runs()
    assert (found.state, found.code) == ("failed", "agent_lost")


async def test_users_neither_export_nor_import(fabric: Fabric, session: Session) -> None:
    await session.append(note(1))
    lines = await exported(session)
    ada = fabric.view(participant="user:ada")
    with pytest.raises(Forbidden):
        await exported(ada.session("chat-1"))
    with pytest.raises(Forbidden):
        await ada.import_session("copy", lambda: lines)


async def test_two_imports_of_one_file_at_once_leave_it_there_once(fabric: Fabric, session: Session) -> None:
    for n in range(30):
        await session.append(note(n))
    lines = await exported(session)
    done = await asyncio.gather(
        *(fabric.import_session("copy", lambda: lines) for _ in range(2)), return_exceptions=True
    )
    assert all(isinstance(one, tuple | Conflict) for one in done), done
    await fabric.import_session("copy", lambda: lines)
    assert types(await stored(fabric.session("copy"))).count("app.note") == 30


LINES: list[bytes] = []


async def make_lines() -> list[bytes]:
    async with await Fabric.over(MemoryBroker()) as fabric:
        session = fabric.session("chat-1")
        await lively(session)
        return await exported(session)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_that_was_changed_is_refused_with_its_line_before_anything_is_written(data: st.DataObject) -> None:
    if not LINES:
        LINES.extend(asyncio.run(make_lines()))
    lines = list(LINES)
    at = data.draw(st.integers(0, len(lines) - 1))
    where = data.draw(st.integers(0, len(lines[at]) - 2))
    lines[at] = lines[at][:where] + bytes([lines[at][where] ^ 1]) + lines[at][where + 1 :]

    async def refused() -> None:
        async with await Fabric.over(MemoryBroker()) as fabric:
            with pytest.raises(Corrupt) as corrupt:
                await fabric.import_session("copy", lambda: lines)
            assert corrupt.value.facts["line"] in (at + 1, at + 2)
            assert (await fabric.sessions()).records == []

    asyncio.run(refused())


def test_what_is_exported_is_json_that_others_can_read() -> None:
    lines = LINES or asyncio.run(make_lines())
    parsed = [orjson.loads(line) for line in lines]
    assert parsed[0]["data"]["kind"] == "session"
    assert parsed[-1]["data"]["type"] == "end"
    assert [one["n"] for one in parsed] == list(range(1, len(parsed) + 1))
