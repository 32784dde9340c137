"""What a client has masked (RFC 6455, section 5.3), unmasked as it comes where it is long. A rule: no I/O.

A frame that is not masked no client may send (5.1). aiohttp takes it: it gets one that it refuses.

aiohttp unmasks when a frame is whole: then seven MiB are copied four times, 9 ms in which nobody else has a turn.
Unmasked a piece at a time, as frames that are not masked, which aiohttp takes too, they are put together in 3 ms.
"""

from __future__ import annotations

from typing import Final

from aiohttp._websocket.helpers import websocket_mask

_MASKED: Final = 0x80
# Of extensions that nobody has agreed on: whoever reads them refuses the frame (5.2).
_RESERVED: Final = 0x30
# Lengths below are told in seven bits, or in sixteen where there stands `_SHORT`; else in 64: those are long.
_SHORT: Final = 126
_LONG: Final = 127


class Unmasking:
    """The frames of one socket. Whatever breaks the rules is left to who reads them, and refuses it."""

    __slots__ = ("_at", "_head", "_left", "_mask")

    def __init__(self) -> None:
        self._head = b""  # of a frame whose head is not all there
        self._left = 0  # how much comes of the frame under way
        self._mask = b""  # nothing: its bytes stay as they are
        self._at = 0

    def add(self, data: bytes) -> bytes:
        """Return what comes next, long frames unmasked; the beginning of a head is kept until it is whole."""
        if not self._head and len(data) <= self._left and not self._mask:
            self._left -= len(data)
            return data
        if self._head:
            data, self._head = self._head + data, b""
        parts: list[bytes] = []
        begin = at = 0  # from `begin` to `at` all stays as it is
        end = len(data)
        while at < end:
            if self._left:
                size = min(self._left, end - at)
                if self._mask:
                    parts.append(self._unmasked(data[at : at + size]))
                    begin = at + size
                self._left -= size
                at += size
                continue
            self._mask = b""
            size = _head_size(data, at)
            if size > end - at:
                self._head = data[at:]
                end = at
                break
            masked, length = data[at + 1] & _MASKED, data[at + 1] & ~_MASKED
            if not masked:
                parts += (data[begin:at], bytes([data[at] | _RESERVED]))
                begin = at + 1
            if length == _SHORT:
                length = int.from_bytes(data[at + 2 : at + 4], "big")
            elif length == _LONG:
                length = int.from_bytes(data[at + 2 : at + 10], "big")
                if masked:
                    parts += (data[begin : at + 1], bytes([_LONG]), data[at + 2 : at + 10])
                    self._mask, self._at = data[at + 10 : at + 14], 0
                    begin = at + size
            self._left = length
            at += size
        if not parts:
            return data[:end] if end < len(data) else data
        parts.append(data[begin:end])
        return b"".join(parts)

    def _unmasked(self, data: bytes) -> bytes:
        piece, turn = bytearray(data), self._at % 4
        websocket_mask(self._mask[turn:] + self._mask[:turn], piece)
        self._at += len(data)
        return bytes(piece)


def _head_size(data: bytes, at: int) -> int:
    """Return how long a frame's head is; more than there is, where that cannot be said yet."""
    if at + 2 > len(data):
        return 2
    length = data[at + 1] & ~_MASKED
    size = 2 if length < _SHORT else 4 if length == _SHORT else 10
    return size + 4 if data[at + 1] & _MASKED else size
