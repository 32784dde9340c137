"""Trace context as events carry it: two headers of W3C Trace Context (w3.org/TR/trace-context)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
PARENTS: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# Printable ASCII; more than 512 characters need not be passed on.
STATES: Final = re.compile(r"[\x20-\x7e]{1,512}")
# A later version than 00 may say more behind a dash: what is known of it is read as 00.
_LATER: Final = re.compile(r"(?!00|ff)[0-9a-f]{2}(-[0-9a-f]{32}-[0-9a-f]{16}-)([0-9a-f]{2})(?:-.{0,200})?")
# What is between two commas, without the white space around it.
_MEMBER: Final = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x3c\x3e-\x7e]{1,256}")
_MOST_MEMBERS: Final = 32


class TraceContext(NamedTuple):
    """Which trace, and which span in it, something belongs to."""

    parent: str
    state: str = ""

    @property
    def trace_id(self) -> str:
        return self.parent[3:35]

    @property
    def span_id(self) -> str:
        return self.parent[36:52]

    @property
    def sampled(self) -> bool:
        """Say whether somebody keeps the trace."""
        return int(self.parent[53:55], 16) & 1 == 1

    @property
    def headers(self) -> dict[str, str]:
        return {PARENT: self.parent, STATE: self.state} if self.state else {PARENT: self.parent}


def parse_trace(parent: object, state: object = None) -> TraceContext | None:
    """Read what somebody sent; what is malformed counts as not sent, as W3C has it: a trace is no reason to refuse."""
    if not isinstance(parent, str):
        return None
    later = _LATER.fullmatch(parent)
    if later is not None:  # of its flags 00 knows one
        parent = f"00{later[1]}{int(later[2], 16) & 1:02x}"
    if PARENTS.fullmatch(parent) is None:
        return None
    return TraceContext(parent, state if isinstance(state, str) and _is_state(state) else "")


def _is_state(state: str) -> bool:
    if STATES.fullmatch(state) is None:
        return False
    members = [member for part in state.split(",") if (member := part.strip())]
    return 0 < len(members) <= _MOST_MEMBERS and all(map(_MEMBER.fullmatch, members))


# What is done now belongs to this: what is logged says so.
CARRIED: Final[ContextVar[TraceContext | None]] = ContextVar("session_fabric_trace", default=None)


def with_trace(_: Any, __: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add `trace_id` and `span_id` to a log event, where there are any (a processor for structlog)."""
    carried = CARRIED.get()
    return event if carried is None else {**event, "trace_id": carried.trace_id, "span_id": carried.span_id}
