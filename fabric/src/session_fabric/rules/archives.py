"""What an exported session is made of, and how offsets in it are named whatever log it is in. Pure.

Bodies name offsets of other events (`began`, `input`, …). An import stores the events at offsets of its own, so that
what such a name means is where among the events it points: that is what is compared, and what an import writes anew.
"""

from __future__ import annotations

import base64
import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

import orjson

from session_fabric.rules.chains import Data
from session_fabric.words.errors import Corrupt
from session_fabric.words.events import HANDOFF_OFFERED, SESSION_IMPORTED
from session_fabric.words.names import check_id, check_participant
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import KINDS
from session_fabric.words.wire import Record

_OFFSET: Final = re.compile(rb"[0-9]{16}_[0-9]{16}")
# What a hand-over offer says of the floor it was made for: the sequence of its newest event then.
_FLOOR: Final = re.compile(rb'("floor":)([0-9]{1,16})')


def event_line(record: Record) -> dict[str, Any]:
    """Spell a stored event as a line of an export."""
    parts = record.parts
    line: dict[str, Any] = {
        "type": "event",
        "offset": str(record.offset),
        "id": record.id,
        "event": record.type,
        "actor": record.actor,
        "run": record.run,
        "ts": record.ts,
        "kind": parts.kind,
        "name": parts.name,
    }
    if record.delivered_type == record.type and orjson.dumps(orjson.loads(record.payload)) == record.payload:
        line["body"] = orjson.Fragment(record.payload)
    else:  # spelled in another way than JSON is here, or no JSON: byte for byte
        line["raw"] = base64.b64encode(record.payload).decode()
    return line


def body_of(line: Data) -> bytes:
    """Return the body of an event's line as it was stored."""
    return base64.b64decode(line["raw"], validate=True) if "raw" in line else orjson.dumps(line["body"])


def check_event(line: Data, number: int) -> None:
    """Raise `Corrupt` for a line that an import could not store."""
    try:
        Offset.parse(line["offset"])
        check_id(line["id"])
        check_participant(line["actor"])
        if line["run"] is not None:
            check_id(line["run"])
        if line["kind"] not in KINDS or type(line["ts"]) is not int or not isinstance(line["event"], str):
            raise ValueError(line["kind"])
        if not isinstance(line["name"], str) or not line["name"]:
            raise ValueError("name")
        body_of(line)
    except Exception as error:
        raise Corrupt(
            f"Line {number} is wrong: it is no event that can be stored.",
            hint="It was written by something else than an export.",
            line=number,
        ) from error


class Places:
    """Where offsets point among the events of a log, in the order in which they are added."""

    def __init__(self) -> None:
        self.events: list[Offset] = []
        self._segments: set[int] = set()

    def add(self, offset: Offset) -> None:
        self.events.append(offset)
        self._segments.add(offset.segment)

    def knows(self, offset: Offset) -> bool:
        """Say whether an offset is of a part of the session that was seen."""
        return offset.segment in self._segments

    def name(self, offset: Offset) -> bytes:
        """Name the event at an offset by its number, or the place behind one where no event is any more."""
        at = bisect_right(self.events, offset)
        exact = at > 0 and self.events[at - 1] == offset
        return b"@%d" % at if exact else b"@%d+" % at


def renamed(body: bytes, type: str, at: Offset, rename: Callable[[Offset], bytes | None]) -> bytes:
    """Return a body with the offsets in it renamed; what `rename` does not know stays."""

    def one(match: re.Match[bytes]) -> bytes:
        return rename(Offset.parse(match[0].decode())) or match[0]

    body = _OFFSET.sub(one, body)
    if type == HANDOFF_OFFERED:

        def floor(match: re.Match[bytes]) -> bytes:
            name = rename(Offset(at.segment, int(match[2])))
            return match[0] if name is None else match[1] + name.rpartition(b"_")[2].lstrip(b"0")

        body = _FLOOR.sub(floor, body)
    return body


class Content:
    """A hash over what a session's events are, wherever they are stored: the same after an import as before."""

    def __init__(self) -> None:
        self.events = 0
        self._places = Places()
        self._hash = hashlib.sha256()

    def add(self, line: Data, body: bytes) -> None:
        if line["event"] == SESSION_IMPORTED:
            return
        offset = Offset.parse(line["offset"])
        self._places.add(offset)
        self.events += 1
        same = [line[name] for name in ("kind", "name", "event", "id", "actor", "run", "ts")]
        self._hash.update(orjson.dumps(same) + b"\n")
        self._hash.update(renamed(body, line["event"], offset, self._name) + b"\n")

    def _name(self, offset: Offset) -> bytes | None:
        return self._places.name(offset) if self._places.knows(offset) else None

    @property
    def value(self) -> str:
        return self._hash.hexdigest()
