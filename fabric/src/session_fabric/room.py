"""How much a bucket has under its prefixes: read once, then kept in mind, so that looking costs nothing.

Several processes that write at the same time may come out a few above a bound.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from session_fabric.ports import Bucket
from session_fabric.rules.bounds import Bound, check_fits
from session_fabric.words.errors import LimitExceeded

_MOST_KEPT: Final = 1000
# What others write is found by looking again; before something is refused, too, but not each time.
_STALE_S: Final = 30.0
_AGAIN_S: Final = 1.0


class _Known:
    __slots__ = ("at", "sizes")

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.at = time.monotonic()


class Room:
    """What one bucket has room for, as one process sees it."""

    def __init__(self, bucket: Bucket, bound: Bound) -> None:
        self._bucket = bucket
        self._bound = bound
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def check(self, key: str, size: int) -> None:
        """Return if an entry has room, which is counted then. Raises `LimitExceeded`, `BrokerUnavailable`."""
        prefix = self._prefix(key)
        known = self._known.get(prefix)
        if known is None or time.monotonic() - known.at > _STALE_S:
            known = await self._look(prefix)
        try:
            check_fits(self._bound, known.sizes, key, size)
        except LimitExceeded:
            if time.monotonic() - known.at < _AGAIN_S:
                raise
            known = await self._look(prefix)
            check_fits(self._bound, known.sizes, key, size)
        known.sizes[key] = size

    def freed(self, key: str) -> None:
        """Take note that an entry is gone, or less than it was."""
        known = self._known.get(self._prefix(key))
        if known is not None:
            known.sizes.pop(key, None)

    def _prefix(self, key: str) -> str:
        return ".".join(key.split(".")[: self._bound.tokens])

    async def _look(self, prefix: str) -> _Known:
        entries = await self._bucket.entries(prefix)
        known = self._known[prefix] = _Known({entry.key: len(entry.value or b"") for entry in entries})
        self._known.move_to_end(prefix)
        if len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        return known
