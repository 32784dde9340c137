"""One request to the relay, and how what it asks for is spelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from session_fabric.relay.rights import Rights
from session_fabric.spelling import spell_record
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.packing import MOST_BYTES, pack
from session_fabric.words.subjects import KINDS, Kind
from session_fabric.words.wire import Record

_MOST_S: Final = 10.0
# What a record, or an entry, adds beside its bytes.
BESIDE: Final = 200


class Asked(NamedTuple):
    """One request: by whom, with what rights, and what was sent."""

    rights: Rights
    head: dict[str, Any]
    blobs: list[bytes]

    @property
    def blob(self) -> bytes:
        if len(self.blobs) != 1:
            raise InvalidRequest(f"{len(self.blobs)} byte strings came, not one.", hint="Use the SDK.")
        return self.blobs[0]

    def number(self, name: str, most: int = 1 << 62) -> int:
        value = self.head.get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise InvalidRequest(f"{name} is {value!r:.60}, not a number up to {most}.", hint="Use the SDK.")
        return value

    def maybe(self, name: str) -> int | None:
        return None if self.head.get(name) is None else self.number(name)

    def text(self, name: str) -> str:
        value = self.head.get(name)
        if not isinstance(value, str) or len(value) > 2000:
            raise InvalidRequest(f"{name} is {value!r:.60}, not a text.", hint="Use the SDK.")
        return value

    def seconds(self) -> float:
        value = self.head.get("timeout_s", 5.0)
        return min(max(float(value), 0.05), _MOST_S) if isinstance(value, (int, float)) else 5.0


Answer = Callable[[Asked], Awaitable[bytes]]


def operations_of(part: object) -> dict[str, Answer]:
    """Return what a part of the relay answers: its methods `on_…`."""
    return {name.removeprefix("on_"): getattr(part, name) for name in dir(part) if name.startswith("on_")}


def kinds_of(asked: Asked) -> list[Kind]:
    kinds = asked.head.get("kinds", [])
    if not isinstance(kinds, list) or not all(kind in KINDS for kind in kinds):
        raise InvalidRequest(f"{kinds!r:.60} are no kinds of events.", hint="Use the SDK.")
    return kinds


def size_of(record: Record) -> int:
    return len(record.head) + min(len(record.payload), MOST_BYTES // 2) + len(record.subject) + BESIDE


def answered(records: list[Record], more: dict[str, Any]) -> bytes:
    told, blobs = list[Any](), list[bytes]()
    for record in records:
        spelled, (head, payload) = spell_record(record)
        large = len(payload) > MOST_BYTES // 2
        told.append([*spelled, len(payload) if large else 0])
        blobs += [head, b"" if large else payload]
    return pack({"records": told, **more}, blobs)
