"""Subscriptions on a tenant's durable streams in its backup, and back."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest
from session_fabric import Fabric, backup
from session_fabric.rules import wakes
from session_fabric.rules.appends import Asked
from session_fabric.rules.wakes import Link, Wake
from session_fabric.streams import archive, subscribed
from session_fabric.streams.records import place_of
from session_fabric.streams.wishes import Fork, Wish
from session_fabric.words.errors import Corrupt
from session_fabric.words.positions import ZERO, Offset

from tests.fabric.test_backup import elsewhere
from tests.fabric.test_backup_streams import made, moved
from tests.support.sessions import Fabrics

pytestmark = pytest.mark.needs_rights

_JSON = "application/json"
_BY = "service:writer"


@pytest.fixture
async def fabric(fabrics: Fabrics) -> Fabric:
    return await fabrics.open("operator:ann")


async def subscribe(fabric: Fabric, id: str, **acked: str) -> Wake:
    """Put a subscription on streams, each worked off up to an offset, in the hands of a worker who is at it."""
    links = {path: Link(named=True, acked=offset) for path, offset in acked.items()}
    wake = Wake(tenant=fabric.tenant, id=id, maker=_BY, type="pull-wake", wake_stream="wakes", links=links)
    wake = wakes.claimed(wakes.woken(wake, "w1", acked, 1), "worker", 1)
    await fabric.broker.bucket(subscribed.BUCKET).put(
        subscribed.key_of(fabric.tenant, id), wake.model_dump_json().encode()
    )
    return wake


async def subscription(fabric: Fabric, id: str) -> Wake:
    entry = await fabric.broker.bucket(subscribed.BUCKET).get(subscribed.key_of(fabric.tenant, id))
    assert entry is not None
    assert entry.value is not None
    return Wake.model_validate_json(entry.value)


async def left(fabric: Fabric, path: str, link: Link) -> list[bytes]:
    """Return what is to be worked off yet; a stream of which nobody was told begins before its beginning."""
    streams, place = await fabric.durable_streams(), place_of(fabric.tenant, path)
    page = await streams.look(place)
    return [one.payload for one in (await streams.read(page, Offset.parse(link.acked))).entries]


async def test_each_subscription_stands_where_it_stood(fabric: Fabric, tmp_path: Path) -> None:
    streams, place = await made(fabric, "log", b"1", b"2", b"3"), place_of(fabric.tenant, "log")
    await made(fabric, "empty")
    page = await streams.look(place)
    offsets = [page.record.beginning, *(one.offset for one in (await streams.read(page, ZERO)).entries)]
    fork = place_of(fabric.tenant, "fork")
    await streams.make(fork, Wish(fork=Fork(place, offsets[2], 0)), _BY)
    await streams.append(fork, Asked(b"4", _JSON), _BY)
    await streams.append(place, Asked(None, close=True), _BY)
    empty = str((await streams.look(place_of(fabric.tenant, "empty"))).standing.tail)
    for n, offset in enumerate([ZERO, *offsets]):
        await subscribe(fabric, f"s{n}", log=str(offset), fork=str(min(offset, offsets[2])), empty=empty)
    other, restored = await moved(fabric, tmp_path / "b")
    assert restored.subscriptions == 5
    assert backup.verify(tmp_path / "b").subscriptions == 5
    new = {
        path: (await (await other.durable_streams()).look(place_of(other.tenant, path))) for path in ("log", "empty")
    }
    for n, log, forked in (
        (0, [b"1", b"2", b"3"], [b"1", b"2", b"4"]),
        (1, [b"1", b"2", b"3"], [b"1", b"2", b"4"]),
        (2, [b"2", b"3"], [b"2", b"4"]),
        (3, [b"3"], [b"4"]),
        (4, [], [b"4"]),
    ):
        wake = await subscription(other, f"s{n}")
        assert (wake.tenant, wake.state, wake.holder, wake.generation) == (other.tenant, "idle", None, 1)
        assert await left(other, "log", wake.links["log"]) == log
        assert await left(other, "fork", wake.links["fork"]) == forked
        tails = {path: str(page.standing.tail) for path, page in new.items()}
        assert wakes.pending(wake, tails) == (["log"] if log else [])
    assert (await subscription(other, "s0")).links["log"].acked == str(ZERO)  # nobody was told that it is there


async def test_a_subscription_that_is_there_stays_as_it_is_and_another_is_made_once(
    fabric: Fabric, tmp_path: Path
) -> None:
    streams = await made(fabric, "log", b"1")
    tail = str((await streams.look(place_of(fabric.tenant, "log"))).standing.tail)
    await subscribe(fabric, "s", log=tail, gone=tail)
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    theirs = await subscribe(other, "s", log=str(ZERO))
    await backup.restore(other, tmp_path / "b")
    assert await subscription(other, "s") == theirs
    other = elsewhere(fabric)
    await backup.restore(other, tmp_path / "b")
    made_now = await subscription(other, "s")
    assert made_now.links["gone"] == Link(named=True)  # the backup has no such stream
    await (await other.durable_streams()).append(place_of(other.tenant, "log"), Asked(b"2", _JSON), _BY)
    await backup.restore(other, tmp_path / "b")
    assert await subscription(other, "s") == made_now
    assert await left(other, "log", made_now.links["log"]) == [b"2"]


async def test_a_stream_s_file_is_read_as_often_for_many_subscriptions_as_for_one(
    fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams, place = await made(fabric, "log", b"1", b"2", b"3"), place_of(fabric.tenant, "log")
    offsets = [one.offset for one in (await streams.read(await streams.look(place), ZERO)).entries]
    opened, plain = list[str](), Path.open

    def counted(file: Path, *args: Any, **options: Any) -> Any:
        opened.append(file.parent.name)
        return plain(file, *args, **options)

    async def opened_by_restore(directory: Path) -> int:
        opened.clear()
        await backup.restore(elsewhere(fabric), directory)
        return opened.count("streams")

    monkeypatch.setattr(Path, "open", counted)
    await subscribe(fabric, "s", log=str(offsets[0]))
    await backup.create(fabric, tmp_path / "one")
    for n, offset in enumerate(offsets):
        await subscribe(fabric, f"s{n}", log=str(offset))
    await backup.create(fabric, tmp_path / "several")
    one = await opened_by_restore(tmp_path / "one")
    assert one > 0
    assert await opened_by_restore(tmp_path / "several") == one


@pytest.mark.parametrize("spoilt", [{"type": "mail"}, None, []], ids=["of a later version", "none", "a list"])
async def test_a_subscription_that_cannot_be_read_is_named_and_nothing_is_restored(
    fabric: Fabric, tmp_path: Path, spoilt: Any
) -> None:
    await made(fabric, "log", b"1")
    await subscribe(fabric, "s", log=str(ZERO))
    await backup.create(fabric, tmp_path / "b")
    file, chain = tmp_path / "b" / "tenant.jsonl", archive.Chain()
    lines = [orjson.loads(line)["data"] for line in file.read_bytes().splitlines()]
    for line in lines:
        if line["type"] == "subscription":
            line["subscription"] = {**line["subscription"], **spoilt} if isinstance(spoilt, dict) else spoilt
    file.write_bytes(b"".join(map(chain.line, lines)))
    other = elsewhere(fabric)
    with pytest.raises(Corrupt, match=r"Subscription ('s'|None|\[\]) cannot be read"):
        await backup.restore(other, tmp_path / "b")
    assert await (await other.durable_streams()).directory.of_tenant(other.tenant) == []


async def test_one_that_cannot_be_read_is_named_and_restored_by_who_can(fabric: Fabric, tmp_path: Path) -> None:
    streams = await made(fabric, "log", b"1", b"2")
    first = (await streams.read(await streams.look(place_of(fabric.tenant, "log")), ZERO)).entries[0].offset
    kept = await subscribe(fabric, "kept", log=str(first))
    later = kept.model_copy(update={"id": "a later one's"})
    bucket = fabric.broker.bucket(subscribed.BUCKET)
    await bucket.put(subscribed.key_of(fabric.tenant, later.id), b'{"of": "a later version"}')
    await bucket.put(f"{fabric.tenant}.not.ours", b"\xff\x00")
    created = await backup.create(fabric, tmp_path / "b")
    assert (created.streams, created.subscriptions) == (1, 1)
    assert sorted(created.unreadable) == ["a later one's", "not.ours"]
    assert backup.verify(tmp_path / "b").unreadable == created.unreadable
    restored = await backup.restore(elsewhere(fabric), tmp_path / "b")
    assert (restored.streams, restored.subscriptions, restored.unreadable) == (1, 1, created.unreadable)
    # The version that wrote it: it reads what is in the file.
    file, chain = tmp_path / "b" / "tenant.jsonl", archive.Chain()
    lines = [orjson.loads(line)["data"] for line in file.read_bytes().splitlines()]
    stored = {base64.b64decode(line["subscription"]["value"]): line for line in lines if line["type"] == "unread"}
    assert stored.keys() == {b'{"of": "a later version"}', b"\xff\x00"}
    read = base64.b64encode(later.model_dump_json().encode()).decode()
    stored[b'{"of": "a later version"}']["subscription"]["value"] = read
    file.write_bytes(b"".join(map(chain.line, lines)))
    other = elsewhere(fabric)
    assert (await backup.restore(other, tmp_path / "b")).unreadable == ("not.ours",)
    wake = await subscription(other, later.id)
    assert (wake.tenant, wake.state, wake.holder) == (other.tenant, "idle", None)
    assert await left(other, "log", wake.links["log"]) == [b"2"]


async def test_on_a_stream_that_was_left_alone_a_subscription_begins_at_the_beginning(
    fabric: Fabric, tmp_path: Path
) -> None:
    streams = await made(fabric, "log", b"1", b"2", b"3")
    tail = str((await streams.look(place_of(fabric.tenant, "log"))).standing.tail)
    await subscribe(fabric, "s", log=tail)
    await backup.create(fabric, tmp_path / "b")
    other, there = elsewhere(fabric), list[str]()
    await made(other, "log", b"theirs")
    await backup.restore(other, tmp_path / "b", others=there.append)
    assert there == ["log"]
    assert await left(other, "log", (await subscription(other, "s")).links["log"]) == [b"theirs"]
