"""Events: what is appended, what is stored, what a follower sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import orjson

from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Kind
from session_fabric.words.traces import TraceContext

# --- the fabric's own event types -----------------------------------------------------------------
MESSAGE_USER: Final = "message.user"
MESSAGE_REGENERATE: Final = "message.regenerate"
MESSAGE_FORWARDED: Final = "message.forwarded"
MESSAGE_STEERED: Final = "message.steered"
MESSAGE_REJECTED: Final = "message.rejected"
MESSAGE_EXPIRED: Final = "message.expired"
MESSAGE_COMPLETED: Final = "message.completed"
MESSAGE_SNAPSHOT: Final = "message.snapshot"
MESSAGE_REDACTED: Final = "message.redacted"
EVENT_REDACTED: Final = "event.redacted"
BRANCH_SELECTED: Final = "branch.selected"
RUN_CLAIMED: Final = "run.claimed"
RUN_SUSPENDED: Final = "run.suspended"
RUN_RESUMED: Final = "run.resumed"
RUN_ORPHANED: Final = "run.orphaned"
RUN_TAKEN_OVER: Final = "run.taken_over"
CONTROL_REQUESTED: Final = "control.requested"
CONTROL_ACCEPTED: Final = "control.accepted"
CONTROL_REJECTED: Final = "control.rejected"
CONTROL_EXPIRED: Final = "control.expired"
CONTROL_OVERDUE: Final = "control.overdue"
TOOL_REQUESTED: Final = "tool.requested"
TOOL_CLAIMED: Final = "tool.claimed"
TOOL_ANSWERED: Final = "tool.answered"
TOOL_EXPIRED: Final = "tool.expired"
INPUT_REQUESTED: Final = "input.requested"
INPUT_ANSWERED: Final = "input.answered"
INPUT_EXPIRED: Final = "input.expired"
FLOOR_CLAIMED: Final = "floor.claimed"
FLOOR_RELEASED: Final = "floor.released"
FLOOR_LOST: Final = "floor.lost"
HANDOFF_OFFERED: Final = "handoff.offered"
HANDOFF_ACCEPTED: Final = "handoff.accepted"
HANDOFF_DECLINED: Final = "handoff.declined"
HANDOFF_EXPIRED: Final = "handoff.expired"
HANDOFF_TAKEN: Final = "handoff.taken"
HANDOFF_RETURNED: Final = "handoff.returned"
POOL_RUNG: Final = "pool.rung"
PRESENCE_JOINED: Final = "presence.joined"
PRESENCE_UPDATED: Final = "presence.updated"
PRESENCE_LEFT: Final = "presence.left"
SESSION_CREATED: Final = "session.created"
SESSION_FORKED: Final = "session.forked"
SESSION_POLICY: Final = "session.policy"
SESSION_PARTICIPANTS: Final = "session.participants"
SESSION_CLOSED: Final = "session.closed"
SESSION_IMPORTED: Final = "session.imported"
CURSOR_MOVED: Final = "cursor.moved"
WHISPER: Final = "whisper"

# --- where they are kept beside a run's own names (ids hold no slash, so that none of these is a run) ---
CONTROLS: Final = "/control"  # kind ev: what is asked of runs
REQUESTS: Final = "/request"  # kind ev: what is asked of participants
REDACTIONS: Final = "/redaction"  # kind ev: whose bodies have been removed
WHISPERS: Final = "/whisper"  # kind ev: what people say to agents behind the users' backs


def control_outcome(request: str) -> str:
    """Name the `own` subject on which exactly one outcome of a control request is written."""
    return f"control/{request}"


def request_outcome(request: str) -> str:
    """Name the `own` subject on which exactly one answer to a request is written, and its claims before."""
    return f"request/{request}"


def floor_of(pool: str) -> str:
    """Name the `own` subject that says who has the floor of a pool."""
    return f"floor/{pool}"


# --- AG-UI 1.0 (docs.ag-ui.com/concepts/events); the ones that the fabric itself acts on ----------
RUN_STARTED: Final = "RUN_STARTED"
RUN_FINISHED: Final = "RUN_FINISHED"
RUN_ERROR: Final = "RUN_ERROR"
STEP_STARTED: Final = "STEP_STARTED"
STEP_FINISHED: Final = "STEP_FINISHED"
TEXT_CONTENT: Final = "TEXT_MESSAGE_CONTENT"
REASONING_CONTENT: Final = "REASONING_MESSAGE_CONTENT"
TOOL_ARGS: Final = "TOOL_CALL_ARGS"

# A delta's type, and the body field that names what it continues. Kept as kind `tok`.
DELTA_KEYS: Final[Mapping[str, str]] = {
    TEXT_CONTENT: "messageId",
    REASONING_CONTENT: "messageId",
    TOOL_ARGS: "toolCallId",
}
RUN_ENDS: Final = frozenset({RUN_FINISHED, RUN_ERROR})
CONTROL_OUTCOMES: Final = frozenset({CONTROL_ACCEPTED, CONTROL_REJECTED, CONTROL_EXPIRED})
# What is newest on a run's own subject when there will be no more of it: its end, or that its input was settled else.
RUN_OVER: Final = RUN_ENDS | {MESSAGE_STEERED, MESSAGE_REJECTED, MESSAGE_EXPIRED}

Deltas = Literal["open", "all"]


class DeltaRef(NamedTuple):
    """What a delta continues and where: `at` counts UTF-16 code units, as browsers do."""

    message: str
    at: int


class BlobRef(NamedTuple):
    """A body that was too large to store inline: where it is, and what it must be."""

    size: int
    sha256: str
    name: str


class Draft(NamedTuple):
    """An event before the log has it. `body` is JSON bytes; of a delta only the JSON string of its text."""

    type: str
    body: bytes
    id: str
    kind: Kind
    name: str
    actor: str
    writer: str
    run: str | None = None
    delta: DeltaRef | None = None
    blob: BlobRef | None = None
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a follower sees it.

    `ts` is milliseconds since 1970 by the broker's clock. `raw` is the body as JSON bytes; `body`
    parses it anew at each use, so keep it in a variable.
    """

    offset: Offset
    id: str
    type: str
    actor: str
    run: str | None
    ts: int
    raw: bytes
    at: int | None = None
    trace: TraceContext | None = None

    @property
    def body(self) -> dict[str, Any]:
        parsed = orjson.loads(self.raw)
        return parsed if isinstance(parsed, dict) else {"value": parsed}


def utf16_length(text: str) -> int:
    """Count UTF-16 code units: the unit of text positions (JavaScript's `length`)."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
