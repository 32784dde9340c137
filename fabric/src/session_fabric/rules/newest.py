"""The newest of what is read in order, back to where there are enough of them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from session_fabric.rules.seals import SEAL_BYTES
from session_fabric.words.delivered import any_head_has, body_sizes
from session_fabric.words.wire import BLOB, Record, needle_of

_BLOB: Final = needle_of(BLOB)


class Newest:
    """Keeps the last events of those that it takes: `limit` at most, and no more than come to `most_bytes` together.

    The one with which they come to it is among them, so that there is one of them at least. `most_bytes` None: no
    matter how large they are.
    """

    def __init__(self, limit: int, most_bytes: int | None = None) -> None:
        self.records: deque[Record] = deque()
        self.bytes = 0
        self._limit = limit
        self._most_bytes = most_bytes
        self._sizes: deque[int] = deque()

    @property
    def full(self) -> bool:
        """Whether whatever stands before them is left out."""
        return len(self.records) >= self._limit or (self._most_bytes is not None and self.bytes >= self._most_bytes)

    @property
    def left_bytes(self) -> int | None:
        """What room there is for those that stand before them."""
        return None if self._most_bytes is None else self._most_bytes - self.bytes

    def take(self, record: Record, size: int) -> None:
        """Take the next event, whose body has `size` bytes once it is whole."""
        self.records.append(record)
        self._sizes.append(size)
        self.bytes += size
        while self._sizes and self._over(self._sizes[0]):
            self.bytes -= self._sizes.popleft()
            self.records.popleft()

    def _over(self, first: int) -> bool:
        if len(self.records) > self._limit:
            return True
        return self._most_bytes is not None and self.bytes - first >= self._most_bytes


def maybe_cut(found: Sequence[Record], limit: int, most_bytes: int) -> bool:
    """Say whether there may be more before what a `read_back` has found within these bounds.

    What was sealed was larger when it was cut there, and a large body may be gone from under its claim check.
    """
    size = sum(body_sizes(found)) + SEAL_BYTES * len(found)
    return len(found) >= limit or size >= most_bytes or any_head_has(found, _BLOB)
