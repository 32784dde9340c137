"""Which events say what a message says, and what of them is to be removed. Pure.

A message's events are those that name its id, or a tool call of its, or what was asked of participants for such a call.
Claims and ends of runs name messages and say nothing of theirs: they stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from session_fabric.words.arguments import check_text
from session_fabric.words.errors import InvalidRequest, LimitExceeded
from session_fabric.words.events import EVENT_REDACTED, MESSAGE_REDACTED, REQUESTS, TOOL_ARGS, request_outcome
from session_fabric.words.subjects import Subject

MOST_REASON: Final = 1000
# What a record can hold of redactions that are not finished: it has to fit a bucket's value.
MOST_PENDING: Final = 16
MOST_LISTED: Final = 4000
# Whoever begins a redaction finishes it within this; after it others do.
PENDING_MS: Final = 60_000
# What says how a session came to be and ended, and what was removed from it: not a participant's words.
_KEPT_TYPES: Final = ("session.", MESSAGE_REDACTED, EVENT_REDACTED)


class Redacting(BaseModel):
    """A redaction that was begun: of which message (or of the event with which offset), the id of the event that says
    so, since when (milliseconds since 1970), and what is to be removed once that is stored: by segment the sequences
    of milestones, and all deltas of `runs`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    event: str
    since: int
    milestones: tuple[tuple[int, tuple[int, ...]], ...] = ()
    runs: tuple[str, ...] = ()


def begun(pending: tuple[Redacting, ...], new: Redacting) -> tuple[Redacting, ...]:
    """Return what is begun with one more; of a target that is begun already the first stays. Raises `LimitExceeded`."""
    if any(one.target == new.target for one in pending):
        return pending
    if len(pending) >= MOST_PENDING:
        raise LimitExceeded(
            f"{len(pending)} redactions are not finished.", hint="Try again in a minute.", limit=MOST_PENDING
        )
    return (*pending, new)


def check_reason(reason: object) -> str:
    if not isinstance(reason, str) or not check_text(reason, "The reason").strip() or len(reason) > MOST_REASON:
        raise InvalidRequest(
            f"The reason of a redaction is {reason!r:.60}.",
            hint=f"Use 1 to {MOST_REASON} characters: it stands where the content stood, for all to read.",
        )
    return reason


def may_go(parts: Subject, type: str) -> bool:
    """Say whether an event may be removed by itself: what says who holds or has won something may not."""
    return not type.startswith(_KEPT_TYPES) and parts.kind in ("ev", "in", "tok")


class Sought:
    """Knows the events of one message, once all of the session has been shown to it (`learn`)."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.calls: dict[str, None] = {}
        self._asked: dict[str, str] = {}  # the tool call that a request to participants is made for, by request
        self._told: dict[str, None] = {}  # requests that a redaction has named

    @property
    def requests(self) -> list[str]:
        """What was asked of participants for the message's tool calls."""
        return [*({r: None for r, call in self._asked.items() if call in self.calls} | self._told)]

    def learn(self, type: str, body: Mapping[str, Any]) -> bool:
        """Look at an event, in any order; say whether it names the message itself."""
        call, request = body.get("call"), body.get("request")
        if type == "tool.requested" and isinstance(call, str) and isinstance(request, str):
            self._asked[request] = call
        if not self._names(type, body):
            return False
        calls = [body.get("toolCallId")] if type.startswith("TOOL_CALL_") else []
        for message in _messages(body):
            listed = message.get("toolCalls")
            if message.get("id") == self.message and isinstance(listed, list):
                calls += [one.get("id") for one in listed if isinstance(one, dict)]
        self.calls |= {call: None for call in calls if isinstance(call, str)}
        return True

    def remember(self, calls: object, requests: object) -> None:
        """Know what a redaction that was begun has named: the events that say it may have gone first."""
        self.calls |= dict.fromkeys(calls) if isinstance(calls, list) else {}
        self._told |= dict.fromkeys(requests) if isinstance(requests, list) else {}

    def has(self, parts: Subject, type: str, body: Mapping[str, Any]) -> bool:
        """Say whether an event is one of the message's, and may go."""
        if parts.kind == "own":
            return parts.name in {request_outcome(request) for request in self.requests}
        if not may_go(parts, type):
            return False
        if parts.name == REQUESTS:
            return body.get("request") in self.requests
        return self._names(type, body) or body.get("toolCallId") in self.calls

    def _names(self, type: str, body: Mapping[str, Any]) -> bool:
        if type.startswith(_KEPT_TYPES):
            return False
        if type.startswith("TOOL_CALL_"):
            # AG-UI: a call without a parent makes a message of its own.
            begins = type == "TOOL_CALL_START" and not body.get("parentMessageId")
            named = body.get("parentMessageId") or (body.get("toolCallId") if begins else None)
            return named == self.message or (type != TOOL_ARGS and body.get("messageId") == self.message)
        return body.get("messageId") == self.message or any(
            message.get("id") == self.message for message in _messages(body)
        )


def _messages(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the messages that a body has: its own, that of a control request, those of a snapshot of all."""
    found = [body.get("message")]
    inner = body.get("body")
    if isinstance(inner, dict):
        found.append(inner.get("message"))
    listed = body.get("messages")
    found += listed if isinstance(listed, list) else []
    return (one for one in found if isinstance(one, dict))
