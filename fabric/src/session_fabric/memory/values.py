"""What a bucket holds: values with revisions and expiry, and who watches."""

from __future__ import annotations

from typing import NamedTuple

from session_fabric.memory.link import Interest
from session_fabric.ports import BUCKETS, Entry


class Value(NamedTuple):
    data: bytes
    revision: int
    expires: float | None
    written: float


class BucketState:
    """What a bucket holds, apart from who is connected."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.past: dict[str, tuple[Value, ...]] = {}
        self.watchers: list[tuple[str, Interest[Entry]]] = []
        self._revision = 0

    def write(self, key: str, data: bytes, now: float, expires: float | None) -> int:
        self._revision += 1
        value = self.values[key] = Value(data, self._revision, expires, now)
        self.past[key] = (*self.past.get(key, ())[1 - max(BUCKETS.values()) :], value)
        self._tell(Entry(key, data, self._revision))
        return self._revision

    def erase(self, key: str) -> None:
        self._revision += 1
        self.values.pop(key, None)
        self.past.pop(key, None)
        self._tell(Entry(key, None, self._revision))

    def expire(self, now: float) -> None:
        due = [k for k, v in self.values.items() if v.expires is not None and v.expires <= now]
        for key in due:
            self.erase(key)

    def _tell(self, entry: Entry) -> None:
        for prefix, watcher in tuple(self.watchers):
            if under(prefix, entry.key):
                watcher.post(entry)


def under(prefix: str, key: str) -> bool:
    """Say whether a key is at or under a dotted prefix."""
    return key == prefix or is_below(prefix, key)


def is_below(prefix: str, key: str) -> bool:
    """Say whether a key is under a dotted prefix, in which `*` stands for any one word."""
    above, words = prefix.split(".") if prefix else [], key.split(".")
    return len(words) > len(above) and all(one in ("*", word) for one, word in zip(above, words, strict=False))
