"""Long frames are unmasked as they come: whoever reads the frames gets the same messages, wherever they are cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from aiohttp import WSCloseCode
from aiohttp._websocket.helpers import websocket_mask
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http_websocket import WebSocketReader
from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric_gateway.unmasking import Unmasking

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted, user_message

MASK = b"\x01\x80\xff\x42"


class Frame(NamedTuple):
    """`wide`: how its length is told, whatever it is."""

    opcode: int
    size: int
    mask: bytes
    wide: int

    def spelled(self) -> bytes:
        data = bytearray(bytes(range(256)) * (self.size // 256 + 1))[: self.size]
        masked = 0x80 if self.mask else 0
        if self.mask:
            websocket_mask(self.mask, data)
        if self.wide == 8:
            head = bytes([masked | 127]) + self.size.to_bytes(8, "big")
        elif self.wide == 2 or self.size > 125:
            head = bytes([masked | 126]) + self.size.to_bytes(2, "big")
        else:
            head = bytes([masked | self.size])
        return bytes([0x80 | self.opcode]) + head + self.mask + bytes(data)


class Protocol:
    _reading_paused = False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


def read(pieces: list[bytes]) -> list[Any]:
    """Return what a reader makes of them."""
    loop = asyncio.new_event_loop()
    try:
        queue = WebSocketDataQueue(Protocol(), 1 << 30, loop=loop)  # type: ignore[arg-type]
        reader = WebSocketReader(queue, 1 << 20, False, False)
        for piece in pieces:
            reader.feed_data(piece)
        refused = queue.exception()
        return [(message.type, bytes(message.data)) for message, _ in queue._buffer] + (
            [refused.code] if refused else []
        )
    finally:
        loop.close()


def frames_of(masks: list[bytes]) -> st.SearchStrategy[list[Frame]]:
    mask = st.sampled_from(masks)
    text = st.builds(Frame, st.just(1), st.integers(0, 3000), mask, st.sampled_from([0, 2, 8]))
    ping = st.builds(Frame, st.just(9), st.integers(0, 125), mask, st.just(0))
    return st.lists(st.one_of(text, ping), min_size=1, max_size=6)


def unmasked(all_: list[Frame], cuts: list[int]) -> list[Any]:
    """Return what a reader gets of frames that come in pieces."""
    data = b"".join(frame.spelled() for frame in all_)
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    unmasking = Unmasking()
    return read([unmasking.add(data[begin:end]) for begin, end in pairwise(ends)])


somewhere = st.lists(st.integers(0, 20_000), max_size=12)


@given(frames_of([MASK]), somewhere)
@example([Frame(1, 3000, MASK, 8), Frame(9, 3, MASK, 0), Frame(1, 7, MASK, 8)], [1, 2, 5, 10, 13, 14, 15, 17, 999])
def test_whoever_reads_gets_the_same(all_: list[Frame], cuts: list[int]) -> None:
    assert unmasked(all_, cuts) == read([frame.spelled() for frame in all_])


@given(frames_of([MASK]), frames_of([b""]), frames_of([MASK, b""]), somewhere)
@example([Frame(1, 3000, MASK, 8)], [Frame(1, 0, b"", 8)], [], [3013, 3014, 3015, 3023])
@example([], [Frame(9, 0, b"", 0)], [], [1])
def test_a_frame_that_is_not_masked_is_none_and_nothing_behind_it_is_read(
    before: list[Frame], bad: list[Frame], behind: list[Frame], cuts: list[int]
) -> None:
    found = unmasked(before + bad + behind, cuts)
    assert found == [*read([frame.spelled() for frame in before]), WSCloseCode.PROTOCOL_ERROR]


async def test_a_socket_gets_what_was_sent_in_long_frames_and_its_reader_has_nothing_to_unmask(
    house: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    add = Unmasking.add

    def noted(unmasking: Unmasking, data: bytes) -> bytes:
        passed_on = add(unmasking, data)
        sizes.append(len(data) - len(passed_on))
        return passed_on

    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        monkeypatch.setattr(Unmasking, "add", noted)
        text = "é" * 200_000
        assert (await ada.append("s1", user_message(text)))["op"] == "appended"
        [event] = [each for each in await ada.until_events(_has_message) if each["type"] == "message.user"]
        assert event["body"]["message"]["content"] == text
    assert sum(sizes) == len(MASK)


def _has_message(events: list[Any]) -> bool:
    return any(each["type"] == "message.user" for each in events)


def test_a_long_frame_is_passed_on_unmasked_as_it_comes_and_others_as_they_are() -> None:
    unmasking = Unmasking()
    short = Frame(1, 300, MASK, 2).spelled()
    assert unmasking.add(short) == short
    long = Frame(1, 70_000, MASK, 8).spelled()
    assert unmasking.add(long[:1000]) == Frame(1, 70_000, b"", 8).spelled()[: 1000 - 4]
    assert unmasking.add(long[1000:] + short) == Frame(1, 70_000, b"", 8).spelled()[1000 - 4 :] + short
