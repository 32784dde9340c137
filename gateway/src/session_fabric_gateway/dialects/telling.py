"""What one run says, from its events however they come: each piece of text once, each milestone once. Pure.

Text is by position (UTF-16 code units): of a snapshot or completion that covers what was told only the rest is. What
would leave a hole is left out: the snapshot, the completion or the rewind that follows brings it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson
from session_fabric.rules.texts import after_utf16
from session_fabric.words import events
from session_fabric.words.events import utf16_length
from session_fabric.words.positions import Offset
from session_fabric.words.wire import Record

Part = Literal["text", "reasoning", "args"]

_PARTS: Final[Mapping[str, Part]] = {
    events.TEXT_CONTENT: "text",
    events.REASONING_CONTENT: "reasoning",
    events.TOOL_ARGS: "args",
}
_OF_MESSAGES: Final[tuple[Part, ...]] = ("text", "reasoning")
_OPENING: Final = {"TEXT_MESSAGE_START": "assistant", "REASONING_MESSAGE_START": "reasoning"}
# Told by what completes or ends the message.
_SILENT: Final = frozenset({"TEXT_MESSAGE_END", "REASONING_MESSAGE_END"})


class Opened(NamedTuple):
    """A message begins; `role` is assistant, reasoning, or what its author chose."""

    message: str
    role: str


class Piece(NamedTuple):
    """More of a message's text or reasoning, or of a tool call's arguments: `text` is a JSON string, quotes and all."""

    of: str
    part: Part
    text: bytes


class Closed(NamedTuple):
    """A message has all its text; `whole`: it was completed, else its run has ended without it."""

    message: str
    whole: bool


class Happened(NamedTuple):
    """A milestone of the run that is none of its messages' text."""

    type: str
    body: Mapping[str, Any]
    id: str
    actor: str
    offset: Offset
    ts: int


class Over(NamedTuple):
    """Nothing more comes of this run.

    `type`: RUN_FINISHED or RUN_ERROR; or what became of an input that got no run of its own: `message.rejected`,
    `message.expired`, `message.steered` (`run` in the body is the one that took it).
    """

    type: str
    body: Mapping[str, Any]
    offset: Offset


Told = Opened | Piece | Closed | Happened | Over


class Telling:
    """Tell one run. Events of others are passed over; one that comes again, or late, tells nothing twice."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.over = False
        self._had: set[tuple[int, int]] = set()  # milestones
        self._told: dict[tuple[str, Part], int] = {}
        self._open: dict[str, str] = {}
        self._closed: set[str] = set()

    @property
    def told(self) -> Mapping[tuple[str, Part], int]:
        """How much of each text was told, as `seed` takes it."""
        return dict(self._told)

    def seed(self, units: Mapping[tuple[str, Part], int]) -> None:
        """Take it that so much of these texts was told before, and no more of them; their messages are open."""
        for (of, part), count in units.items():
            self._told[of, part] = count
            if part != "args":
                self._open.setdefault(of, "assistant")

    def add(self, record: Record) -> list[Told]:
        """Return what an event adds, in order."""
        if self.over or not self._is_ours(record):
            return []
        part = _PARTS.get(record.type)
        delta = record.delta
        if part is not None and delta is not None and record.parts.kind == "tok":
            if record.delivered_type != record.type:
                return []  # what a stranger stored that is none
            return self._piece(delta.message, part, delta.at, record.payload)
        place = (record.segment, record.sequence)
        if place in self._had:
            return []
        self._had.add(place)
        body = orjson.loads(record.body)
        return self._milestone(record, record.delivered_type, body if isinstance(body, dict) else {})

    def _is_ours(self, record: Record) -> bool:
        if record.run == self.run:
            return True
        parts = record.parts
        return parts.kind == "own" and parts.name == self.run

    def _milestone(self, record: Record, type: str, body: Mapping[str, Any]) -> list[Told]:
        if type in _OPENING:
            id = body.get("messageId")
            return self._opened(id, str(body.get("role", _OPENING[type]))) if isinstance(id, str) else []
        if type in _SILENT:
            return []
        if type in (events.MESSAGE_COMPLETED, events.MESSAGE_SNAPSHOT):
            return self._covered(body.get("message"), whole=type == events.MESSAGE_COMPLETED)
        # Of an input that the run has taken the header names the run, and the subject the run that is not to be.
        if type in events.RUN_OVER and (record.parts.kind, record.parts.name) == ("own", self.run):
            self.over = True
            left = [Closed(message, False) for message in self._open]
            return [*left, Over(type, body, record.offset)]
        told: list[Told] = []
        if type == events.TOOL_ARGS:  # the whole of it at once
            return self._rest(body.get("toolCallId"), "args", body.get("delta"))
        if type == "TOOL_CALL_END":
            told += self._rest(body.get("toolCallId"), "args", body.get("args"))
        if type == events.STEP_STARTED:
            self._forget(body.get("supersedes"))
        return [*told, Happened(type, body, record.id, record.actor, record.offset, record.ts)]

    # --- messages -----------------------------------------------------------------------------------

    def _opened(self, message: str, role: str) -> list[Told]:
        if message in self._open or message in self._closed:
            return []
        self._open[message] = role
        return [Opened(message, role)]

    def _piece(self, of: str, part: Part, at: int, payload: bytes) -> list[Told]:
        told_units = self._told.get((of, part), 0)
        if at > told_units or of in self._closed:
            return []
        units = units_of(payload)
        if at + units <= told_units:
            return []
        self._told[of, part] = at + units
        text = payload if at == told_units else _json(after_utf16(orjson.loads(payload), told_units - at))
        begins = [] if part == "args" else self._opened(of, "reasoning" if part == "reasoning" else "assistant")
        return [*begins, Piece(of, part, text)]

    def _rest(self, of: object, part: Part, text: object) -> list[Told]:
        """Tell what a text has beyond what was told."""
        if not isinstance(of, str) or not isinstance(text, str):
            return []
        told_units, units = self._told.get((of, part), 0), utf16_length(text)
        if units <= told_units:
            return []
        self._told[of, part] = units
        return [Piece(of, part, _json(after_utf16(text, told_units)))]

    def _covered(self, message: object, *, whole: bool) -> list[Told]:
        id = message.get("id") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(id, str) or id in self._closed:
            return []
        role = str(message.get("role", "assistant"))
        told = self._opened(id, role)
        if role == "reasoning":  # AG-UI's own kind of message: what it says is what was thought
            told += self._rest(id, "reasoning", message.get("content"))
        else:
            told += self._rest(id, "reasoning", message.get("reasoning"))
            told += self._rest(id, "text", message.get("content"))
        if whole:
            self._open.pop(id, None)
            self._closed.add(id)
            told.append(Closed(id, True))
        return told

    def _forget(self, messages: object) -> None:
        """A failed attempt's messages are hidden; one that is begun again under its id is told from its beginning."""
        for id in messages if isinstance(messages, list) else ():
            if isinstance(id, str):
                self._open.pop(id, None)
                self._closed.discard(id)
                for part in _OF_MESSAGES:
                    self._told.pop((id, part), None)


def units_of(payload: bytes) -> int:
    """Count the UTF-16 code units of a JSON string; parses it only where something in it is escaped."""
    if b"\\" in payload:
        return utf16_length(orjson.loads(payload))
    return len(payload) - 2 if payload.isascii() else utf16_length(payload.decode()) - 2


def _json(text: str) -> bytes:
    # Half a pair, which orjson does not spell, is what a stranger's cut may leave.
    return json.dumps(text).encode()
