"""Durable streams of a tenant in a directory, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from session_fabric import Fabric, backup
from session_fabric.rules.appends import Asked, Producer
from session_fabric.streams import archive
from session_fabric.streams.records import place_of
from session_fabric.streams.streams import Streams
from session_fabric.streams.wishes import Fork, Wish
from session_fabric.words.errors import (
    Conflict,
    Corrupt,
    InvalidOffset,
    ProducerGap,
    SequenceRegressed,
    StreamClosed,
    StreamExists,
    StreamNotFound,
)
from session_fabric.words.positions import ZERO

from tests.fabric.test_backup import do, elsewhere
from tests.support.sessions import Fabrics

pytestmark = pytest.mark.needs_rights

_JSON = "application/json"
_BY = "service:writer"


@pytest.fixture
async def fabric(fabrics: Fabrics) -> Fabric:
    return await fabrics.open("operator:ann")


async def made(fabric: Fabric, path: str, *bodies: bytes, type: str = _JSON, **wish: Any) -> Streams:
    streams, place = await fabric.durable_streams(), place_of(fabric.tenant, path)
    await streams.make(place, Wish(content_type=type, **wish), _BY)
    for body in bodies:
        await streams.append(place, Asked(body, type), _BY)
    return streams


async def read(fabric: Fabric, path: str) -> list[bytes]:
    streams, place = await fabric.durable_streams(), place_of(fabric.tenant, path)
    page, after, found = await streams.look(place), ZERO, list[bytes]()
    while True:
        chunk = await streams.read(page, after)
        found += [one.payload for one in chunk.entries]
        if chunk.end:
            return found
        after = chunk.next


async def moved(fabric: Fabric, directory: Path) -> tuple[Fabric, backup.Backup]:
    """Back a tenant up, and restore it in another one."""
    await backup.create(fabric, directory)
    other = elsewhere(fabric)
    return other, await backup.restore(other, directory)


@pytest.mark.parametrize(
    ("type", "bodies"),
    [
        (_JSON, [b'{"n":1},{"n":2}', b'{ "spelled" : 1.0 }', '["é"]'.encode()]),
        ("text/plain; charset=utf-8", ["grüße\n".encode(), b"\xff\xfe no text"]),
        ("application/octet-stream", [bytes(range(256)), b"x" * 1_500_000]),
    ],
)
async def test_streams_come_back_byte_for_byte(fabric: Fabric, tmp_path: Path, type: str, bodies: list[bytes]) -> None:
    await made(fabric, "orders/7 ü", *bodies, type=type)
    await made(fabric, "empty", type=type, ttl_s=3600)
    other, restored = await moved(fabric, tmp_path / "b")
    assert (restored.sessions, restored.streams, restored.entries, restored.new) == (0, 2, len(bodies), 2)
    assert backup.verify(tmp_path / "b") == restored._replace(tenant=fabric.tenant, new=0)
    assert await read(other, "orders/7 ü") == bodies
    assert await read(other, "empty") == []
    page = await (await other.durable_streams()).look(place_of(other.tenant, "empty"))
    assert (page.record.content_type, page.record.ttl_s) == (type, 3600)
    assert (page.record.ends_ms or 0) > time.time_ns() // 1_000_000 + 3_500_000


async def test_writers_go_on_where_they_were(fabric: Fabric, tmp_path: Path) -> None:
    streams, place = await made(fabric, "log"), place_of(fabric.tenant, "log")
    for number in range(3):
        await streams.append(place, Asked(b"%d" % number, _JSON, producer=Producer("p", 4, number)), _BY)
    await streams.append(place, Asked(b"3", _JSON, seq="0007 é"), _BY)
    other, _ = await moved(fabric, tmp_path / "b")
    streams, place = await other.durable_streams(), place_of(other.tenant, "log")
    again = await streams.append(place, Asked(b"2", _JSON, producer=Producer("p", 4, 2)), _BY)
    assert not again.stored
    with pytest.raises(ProducerGap):
        await streams.append(place, Asked(b"9", _JSON, producer=Producer("p", 4, 9)), _BY)
    with pytest.raises(SequenceRegressed):
        await streams.append(place, Asked(b"4", _JSON, seq="0006"), _BY)
    assert (await streams.append(place, Asked(b"4", _JSON, producer=Producer("p", 4, 3)), _BY)).stored
    assert await read(other, "log") == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_closed_stream_is_closed_and_knows_who_closed_it(fabric: Fabric, tmp_path: Path) -> None:
    closer = Producer("p", 0, 0)
    for path, last in (("alone", None), ("with-a-body", b"2")):
        streams = await made(fabric, path, b"1")
        await streams.append(place_of(fabric.tenant, path), Asked(last, _JSON, producer=closer, close=True), _BY)
    other, _ = await moved(fabric, tmp_path / "b")
    streams = await other.durable_streams()
    for path, last in (("alone", None), ("with-a-body", b"2")):
        place = place_of(other.tenant, path)
        assert (await streams.look(place)).standing.closed
        with pytest.raises(StreamClosed):
            await streams.append(place, Asked(b"3", _JSON), _BY)
        assert not (await streams.append(place, Asked(last, _JSON, producer=closer, close=True), _BY)).stored
        assert await read(other, path) == [b"1", *([last] if last else [])]


async def test_a_fork_comes_back_with_its_past_as_a_stream_of_its_own(fabric: Fabric, tmp_path: Path) -> None:
    streams, source = await made(fabric, "source", b"1", b"2,3"), place_of(fabric.tenant, "source")
    first = (await streams.read(await streams.look(source), ZERO)).entries[0].offset
    fork = place_of(fabric.tenant, "fork")
    await streams.make(fork, Wish(fork=Fork(source, first, 1)), _BY)
    await streams.append(fork, Asked(b'"mine"', _JSON), _BY)
    await streams.append(source, Asked(None, close=True), _BY)
    await streams.delete(source, "operator:ann")  # what the fork reads of it is kept
    other, restored = await moved(fabric, tmp_path / "b")
    assert restored.streams == 1
    assert await read(other, "fork") == [b"1", b"2", b'"mine"']
    page = await (await other.durable_streams()).look(place_of(other.tenant, "fork"))
    assert (page.record.source, page.standing.closed) == (None, False)


async def test_restoring_again_changes_nothing_and_another_stream_is_left_alone(fabric: Fabric, tmp_path: Path) -> None:
    await made(fabric, "log", b"1")
    other, _ = await moved(fabric, tmp_path / "b")
    streams = await other.durable_streams()
    await streams.append(place_of(other.tenant, "log"), Asked(b"2", _JSON), _BY)
    assert (await backup.restore(other, tmp_path / "b")).new == 0
    assert await read(other, "log") == [b"1", b"2"]
    with pytest.raises(StreamExists):
        await backup.restore(fabric, tmp_path / "b")
    assert await read(fabric, "log") == [b"1"]


async def test_offsets_of_before_are_of_another_life(fabric: Fabric, tmp_path: Path) -> None:
    streams = await made(fabric, "log", b"1", b"2")
    (old, _) = (await streams.read(await streams.look(place_of(fabric.tenant, "log")), ZERO)).entries
    other, _ = await moved(fabric, tmp_path / "b")
    streams = await other.durable_streams()
    with pytest.raises(InvalidOffset):
        await streams.read(await streams.look(place_of(other.tenant, "log")), old.offset)


class _CutError(Exception):
    """Stands for a process that ends in mid-restore."""


async def cut_off(fabric: Fabric, directory: Path) -> tuple[Streams, archive.Lines]:
    """Begin to restore the stream `log`, and end in the middle; return the lines that it would have had."""
    (file,) = (directory / "streams").glob("*.jsonl")
    lines, reads = file.read_bytes().splitlines(keepends=True), 0

    def cut() -> Any:
        nonlocal reads
        reads += 1
        for number, line in enumerate(lines):
            if reads > 1 and number == 3:  # it was verified; now it is written
                raise _CutError
            yield line

    streams = await fabric.durable_streams()
    with pytest.raises(_CutError):
        await archive.restore(streams, place_of(fabric.tenant, "log"), cut, _BY)
    return streams, lambda: iter(lines)


async def test_a_restore_that_was_cut_off_is_there_for_nobody_until_it_is_made_again(
    fabric: Fabric, tmp_path: Path
) -> None:
    bodies = [b"%d" % number for number in range(5)]
    await made(fabric, "log", *bodies)
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    place = place_of(other.tenant, "log")
    streams, _ = await cut_off(other, tmp_path / "b")
    for refused in (streams.look(place), streams.append(place, Asked(b"9", _JSON), _BY)):
        with pytest.raises(StreamNotFound):
            await refused
    with pytest.raises(StreamExists, match="is being restored"):
        await streams.make(place, Wish(content_type=_JSON), _BY)
    assert (await backup.create(other, tmp_path / "other")).streams == 0
    assert (await backup.restore(other, tmp_path / "b")).new == 1
    assert await read(other, "log") == bodies


async def test_what_a_restore_has_left_can_be_deleted_and_the_path_used(fabric: Fabric, tmp_path: Path) -> None:
    await made(fabric, "log", b"1", b"2", b"3")
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    place = place_of(other.tenant, "log")
    streams, lines = await cut_off(other, tmp_path / "b")
    await streams.delete(place, "operator:ann")
    await made(other, "log", b"9")
    with pytest.raises(StreamExists):
        await archive.restore(streams, place, lines, _BY)
    assert await read(other, "log") == [b"9"]


async def test_a_restore_under_which_another_one_begins_ends_and_nothing_is_there_twice(
    fabric: Fabric, tmp_path: Path
) -> None:
    bodies = [b"%d" % number for number in range(5)]
    await made(fabric, "log", *bodies)
    await backup.create(fabric, tmp_path / "b")
    (file,) = (tmp_path / "b" / "streams").glob("*.jsonl")
    other = elsewhere(fabric)
    streams, place = await other.durable_streams(), place_of(other.tenant, "log")

    def lines() -> list[bytes]:
        return file.read_bytes().splitlines(keepends=True)

    first = await archive._begin(streams, place, archive.verify(lines()))
    assert first is not None
    assert await archive.restore(streams, place, lines, _BY)
    with pytest.raises(Conflict):
        await archive._write(streams, first, lines)
    assert not await archive.restore(streams, place, lines, _BY)
    assert await read(other, "log") == bodies


async def test_a_stream_whose_time_has_passed_is_left_out(fabric: Fabric, tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    await made(fabric, "log", b"1", expires_ms=now_ms + 3_600_000, expires_at="later")
    await backup.create(fabric, tmp_path / "b")
    (file,) = (tmp_path / "b" / "streams").glob("*.jsonl")
    lines = [orjson.loads(line)["data"] for line in file.read_bytes().splitlines()]
    chain = archive.Chain()
    spelled = [chain.line(line | ({"expires_ms": now_ms - 1} if "expires_ms" in line else {})) for line in lines]
    other = elsewhere(fabric)
    streams, place = await other.durable_streams(), place_of(other.tenant, "log")
    assert not await archive.restore(streams, place, lambda: spelled, _BY)
    with pytest.raises(StreamNotFound):
        await streams.look(place)


@pytest.mark.parametrize("harm", ["change", "swap", "lose"])
async def test_a_file_that_is_not_what_was_written_is_named_and_nothing_is_restored(
    fabric: Fabric, tmp_path: Path, harm: str
) -> None:
    await made(fabric, "one", b'"Hello"')
    await made(fabric, "two", b'"Hello"')
    await backup.create(fabric, tmp_path / "b")
    one, two = sorted((tmp_path / "b" / "streams").glob("*.jsonl"))
    do(harm, one, two)
    other = elsewhere(fabric)
    with pytest.raises(Corrupt, match=rf"streams/{two.name}"):
        await backup.restore(other, tmp_path / "b")
    assert await (await other.durable_streams()).directory.of_tenant(other.tenant) == []


async def test_a_stream_made_anew_under_a_restore_ends_it(fabric: Fabric, tmp_path: Path) -> None:
    await made(fabric, "log", b"1", b"2", b"3")
    await backup.create(fabric, tmp_path / "b")
    (file,) = (tmp_path / "b" / "streams").glob("*.jsonl")
    other = elsewhere(fabric)
    streams, place = await other.durable_streams(), place_of(other.tenant, "log")
    verified = archive.verify(file.read_bytes().splitlines(keepends=True))
    begun = await archive._begin(streams, place, verified)
    assert begun is not None
    await streams.delete(place, "operator:ann")
    await made(other, "log", b"9")
    with pytest.raises(Conflict):
        await archive._write(streams, begun, lambda: file.read_bytes().splitlines(keepends=True))
    assert await read(other, "log") == [b"9"]
