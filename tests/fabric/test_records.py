"""Session records: kept at hand, kept right, refused when they make no sense."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from session_fabric import Fabric
from session_fabric.records import Directory, SessionRecord, is_gone
from session_fabric.words.errors import Conflict, OffsetGone, SessionNotFound
from session_fabric.words.subjects import Place

from tests.support.servers import NatsNode
from tests.support.sessions import Fabrics, api, note, stored, values
from tests.support.waiting import eventually


def directory(fabric: Fabric) -> Directory:
    return fabric._shared.directory


async def test_a_record_is_found_by_those_who_heard_of_its_change(fabrics: Fabrics) -> None:
    one, two = [await fabrics.open() for _ in range(2)]
    record = await one.session("chat-1").record()
    assert (await directory(two).load(record.place)) == record
    await directory(one).change(record.place, lambda r: r.model_copy(update={"labels": {"topic": "wine"}}))

    async def heard() -> bool:
        return (await directory(two).load(record.place)).labels == {"topic": "wine"}

    await eventually(heard)


async def test_a_record_that_is_read_while_it_changes_is_not_kept_as_it_was(fabrics: Fabrics) -> None:
    """Whatever comes first, the answer to a read or the news of a change, the newest is kept."""
    one, two = [await fabrics.open() for _ in range(2)]
    place = (await one.session("chat-1").record()).place
    for n in range(60):
        labels = {"n": str(n)}
        await asyncio.gather(
            directory(one).change(place, lambda r, labels=labels: r.model_copy(update={"labels": labels})),  # type: ignore[misc]
            *(directory(two).find(place, fresh=True) for _ in range(4)),
        )

        async def newest(labels: dict[str, str] = labels) -> bool:
            return (await directory(two).load(place)).labels == labels

        await eventually(newest)


async def test_changes_made_at_once_are_all_made(fabrics: Fabrics) -> None:
    many = [await fabrics.open() for _ in range(4)]
    place = (await many[0].session("chat-1").record()).place

    def with_label(n: int):  # type: ignore[no-untyped-def]
        return lambda r: r.model_copy(update={"labels": {**r.labels, str(n): "x"}})

    await asyncio.gather(*(directory(fabric).change(place, with_label(n)) for n, fabric in enumerate(many)))
    record = await directory(many[0]).load(place, fresh=True)
    assert sorted(record.labels) == ["0", "1", "2", "3"]


@pytest.mark.needs_rights
async def test_a_record_that_always_changes_under_an_edit_is_given_up(fabric: Fabric) -> None:
    place = (await fabric.session("chat-1").record()).place
    bucket = fabric.broker.bucket("sf-sessions")

    class Contested(Directory):
        async def find(self, place: Place, *, fresh: bool = False) -> tuple[SessionRecord, int] | None:
            found = await super().find(place, fresh=fresh)
            assert found is not None
            await bucket.put(place.key(), found[0].model_dump_json().encode())
            return found

    with pytest.raises(Conflict):
        await Contested(fabric.broker).change(place, lambda r: r.model_copy(update={"labels": {"a": "b"}}))


async def test_changing_what_is_not_there_says_so(fabric: Fabric) -> None:
    with pytest.raises(SessionNotFound):
        await directory(fabric).change(Place(fabric.tenant, "nobody"), lambda r: r)


@pytest.mark.needs_rights
async def test_a_record_that_cannot_be_read_counts_as_none(fabric: Fabric) -> None:
    place = (await fabric.session("chat-1").record()).place
    await fabric.session("chat-2").record()
    await fabric.broker.bucket("sf-sessions").put(place.key(), b'{"nonsense":1}')

    async def gone() -> bool:
        return await directory(fabric).find(place) is None

    await eventually(gone)
    assert [r.session for r in (await fabric.sessions()).records] == ["chat-2"]


async def test_those_who_watch_hear_of_changes_until_they_end(fabric: Fabric) -> None:
    session = fabric.session("chat-1")
    place = (await session.record()).place
    heard: list[SessionRecord | None] = []
    end = directory(fabric).watch(place, heard.append)
    await directory(fabric).change(place, lambda r: r.model_copy(update={"labels": {"a": "b"}}))
    await eventually(lambda: heard)
    assert is_gone(heard[0]) is None
    await session.delete()
    await eventually(lambda: heard[-1] is None)
    assert is_gone(None) is not None
    count = len(heard)
    end()
    end()
    await session.record()
    await session.delete()
    assert len(heard) == count


async def test_a_stream_that_was_made_anew_is_another_part_of_the_session(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, streams=1) as fabric:
        session = fabric.session("chat-1")
        lost = (await session.append(note("lost"))).offset
        await api(fabric).api.call("STREAM.DELETE.SESSIONS-00")
    async with Fabric.connect(own_server.url, streams=1) as fabric:
        session = fabric.session("chat-1")
        await session.append(note("new"))
        assert values(await stored(session)) == ["new"]
        with pytest.raises(OffsetGone):
            await stored(session, lost)


async def test_a_record_that_uses_nothing_new_is_read_by_the_first_version_too(fabric: Fabric) -> None:
    """That one refuses what it does not know: these are the fields that it does."""
    first = {
        *("tenant", "session", "created", "state", "labels", "segments", "floor", "source", "forks", "policy"),
        *("participants", "sealed", "owed", "retention", "holds", "imported", "redacting"),
    }
    session = fabric.session("chat-1")
    await session.set_policy(when_busy="reject", strict=True)
    await session.set_policy(strict=False)
    entry = await fabric.broker.bucket("sf-sessions").get(session.place.key())
    told = orjson.loads((entry and entry.value) or b"{}")
    assert (set(told), told["policy"]) == (first, {"when_busy": "reject", "answer_within_s": 300})
