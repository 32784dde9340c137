"""Bodies too large for one message, while their pieces come in."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, NamedTuple

from session_fabric.words.errors import InvalidRequest, RateLimited, TooLarge
from session_fabric.writer import MAX_BODY_BYTES

# Of one asker at once, and of all: what has not come whole within this time is dropped, the oldest first.
_MOST_OF_ONE: Final = 4
_MOST: Final = 32
_KEPT_S: Final = 60.0


class _Upload(NamedTuple):
    size: int
    begun: float
    body: bytearray


class Uploads:
    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], _Upload] = OrderedDict()

    def add(self, owner: str, name: str, at: int, size: int, piece: bytes) -> None:
        """Take a piece in. Said again, it changes nothing. Raises `TooLarge`, `RateLimited`, `InvalidRequest`."""
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"The body has {size} bytes; {MAX_BODY_BYTES} is the most.", limit=MAX_BODY_BYTES)
        self._drop_old()
        key = (owner, name)
        if key not in self._kept:
            if sum(of == owner for of, _ in self._kept) >= _MOST_OF_ONE or len(self._kept) >= _MOST:
                raise RateLimited("Too many large bodies are on their way.", hint="Try again.", retry_after_ms=500)
            self._kept[key] = _Upload(size, time.monotonic(), bytearray())
        upload = self._kept[key]
        if at > len(upload.body) or at + len(piece) > upload.size or upload.size != size:
            raise InvalidRequest(f"A piece at {at} does not fit behind {len(upload.body)} bytes.", hint="Begin again.")
        upload.body[at : at + len(piece)] = piece

    def take(self, owner: str, name: str) -> bytes:
        """Return a body that is whole. Raises `InvalidRequest`."""
        upload = self._kept.pop((owner, name), None)
        if upload is None or len(upload.body) != upload.size:
            raise InvalidRequest("A large body did not come whole.", hint="Begin again.")
        return bytes(upload.body)

    def _drop_old(self) -> None:
        now = time.monotonic()
        while self._kept and next(iter(self._kept.values())).begun < now - _KEPT_S:
            self._kept.popitem(last=False)
