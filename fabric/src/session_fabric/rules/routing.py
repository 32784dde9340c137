"""Where an event is kept, and who may write it.

| type                                          | kept as    | users | agent | service |
|-----------------------------------------------|------------|-------|-------|---------|
| `message.user`, `message.regenerate`          | `in`, pool | yes   | yes   | yes     |
| `message.forwarded`                           | `in`, pool | no    | no    | yes     |
| `branch.selected`                             | `ev`       | yes   | yes   | yes     |
| deltas (`TEXT_MESSAGE_CONTENT`, …)            | `tok`, run | no    | yes   | yes     |
| `RUN_FINISHED`, `RUN_ERROR`                   | `own`, run | no    | yes   | yes     |
| `run.*`                                       | `own`, run | no    | no    | yes     |
| `message.completed`, `message.snapshot`       | `ev`       | no    | yes   | yes     |
| `CUSTOM`                                      | `ev`       | yes   | yes   | yes     |
| `message.redacted`, `event.redacted`          | `ev`       | no    | no    | no      |
| the rest of AG-UI                             | `ev`       | no    | yes   | yes     |
| the rest of the fabric's own (`control.*`, …) | `ev`       | no    | no    | yes     |
| any other (`app.rated`, `note`)               | `ev`       | yes   | yes   | yes     |

Users are `user`, `operator` and `supervisor`. The fabric's own events are written through calls of their own
(`control`, a run, presence), which decide by `destination` alone; `route` is for what a participant appends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final

from session_fabric.words.errors import Forbidden, InvalidEvent
from session_fabric.words.events import (
    BRANCH_SELECTED,
    CONTROL_REQUESTED,
    CONTROLS,
    DELTA_KEYS,
    EVENT_REDACTED,
    INPUT_REQUESTED,
    MESSAGE_COMPLETED,
    MESSAGE_FORWARDED,
    MESSAGE_REDACTED,
    MESSAGE_REGENERATE,
    MESSAGE_SNAPSHOT,
    MESSAGE_USER,
    REDACTIONS,
    REQUESTS,
    RUN_ENDS,
    TOOL_REQUESTED,
    WHISPER,
    WHISPERS,
)
from session_fabric.words.names import check_id
from session_fabric.words.subjects import NO_NAME, Kind

DEFAULT_POOL: Final = "default"
RESERVED_PREFIXES: Final = frozenset(
    {
        "message",
        "run",
        "control",
        "tool",
        "input",
        "presence",
        "handoff",
        "session",
        "cursor",
        "budget",
        "fabric",
        "floor",
        "pool",
        "whisper",
        "branch",
        "event",
    }
)
# Families rather than names, so that an event that AG-UI adds to one is not taken for a user's own.
AG_UI_FAMILIES: Final = (
    "RUN_",
    "TEXT_MESSAGE_",
    "TOOL_CALL_",
    "STATE_",
    "MESSAGES_",
    "ACTIVITY_",
    "REASONING_",
    "THINKING_",
    "STEP_",
    "SUBAGENT_",
)
CUSTOM: Final = "CUSTOM"
RAW: Final = "RAW"
# Names in capitals are AG-UI's, those that it has yet to choose included.
_CAPITALS: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_ANYBODYS: Final = frozenset({MESSAGE_USER, MESSAGE_REGENERATE, BRANCH_SELECTED, CUSTOM})
_TO_POOLS: Final = frozenset({MESSAGE_USER, MESSAGE_REGENERATE, MESSAGE_FORWARDED})
# Nobody says that something was removed but by removing it.
_TELLS_OF_REMOVAL: Final = frozenset({MESSAGE_REDACTED, EVENT_REDACTED})
_AGENTS_OWN: Final = frozenset({MESSAGE_COMPLETED, MESSAGE_SNAPSHOT})


def route(type: str, body: Mapping[str, object], role: str, run: str | None = None) -> tuple[Kind, str]:
    """Return the kind and name under which a participant's event is kept, or raise `Forbidden`."""
    authorize(type, role)
    return destination(type, body, run)


@lru_cache(maxsize=1024)
def authorize(type: str, role: str) -> None:
    """Raise `Forbidden` when a participant of this role may not append this type."""
    if type in _ANYBODYS or (role == "service" and type not in _TELLS_OF_REMOVAL):
        return
    if is_reserved(type):
        if role == "agent" and type in _AGENTS_OWN:
            return
        raise Forbidden(
            f"{type!r} is the fabric's own event: {_a(role)} cannot append it.",
            hint="It is written by the call that it stands for (control, run, presence); "
            "for an event of your own use a prefix of your own, as in app.rated.",
            event=type,
            role=role,
        )
    if (is_ag_ui(type) or _CAPITALS.fullmatch(type)) and role != "agent":
        raise Forbidden(
            f"{type!r} is what a run says: {_a(role)} cannot append it.",
            hint="Append message.user, CUSTOM, or a type with a prefix of your own, as in app.rated.",
            event=type,
            role=role,
        )


def destination(type: str, body: Mapping[str, object], run: str | None = None) -> tuple[Kind, str]:
    """Return the kind and name under which an event is kept, whoever writes it."""
    if type in _TO_POOLS:
        return "in", check_id(body.get("pool", DEFAULT_POOL), "pool")
    if type in DELTA_KEYS:
        return "tok", _of_run(type, run)
    if type in RUN_ENDS or type.startswith("run."):
        return "own", _of_run(type, run)
    if type == CONTROL_REQUESTED:
        return "ev", CONTROLS
    if type in (TOOL_REQUESTED, INPUT_REQUESTED):
        return "ev", REQUESTS
    if type in _TELLS_OF_REMOVAL:
        return "ev", REDACTIONS
    if type == WHISPER:
        return "ev", WHISPERS
    return "ev", NO_NAME


def run_of_input(id: str) -> str:
    """Return the id of the run that answers an input, from the input's event id.

    It is the same whoever works it out, so that a run, a rejection and an expiry of one input exclude each other at
    the broker, and a client can name the run before it has begun.
    """
    return "run-" + sha256(id.encode()).hexdigest()[:24]


def run_of(id: str, body: Mapping[str, object]) -> str:
    """Return the run of an input event; of one that was forwarded, that of the first."""
    origin = body.get("origin")
    return run_of_input(origin if isinstance(origin, str) else id)


def is_reserved(type: str) -> bool:
    """Say whether a type is the fabric's own, by what is before its first dot."""
    return type.partition(".")[0] in RESERVED_PREFIXES


def is_ag_ui(type: str) -> bool:
    """Say whether a type is AG-UI's run content (`CUSTOM`, which anybody may use, is not)."""
    return type == RAW or type.startswith(AG_UI_FAMILIES)


def _of_run(type: str, run: str | None) -> str:
    if run is None:
        raise InvalidEvent(
            f"{type!r} belongs to a run, and none is named.",
            hint="Write it through session.run(), or name the run.",
            event=type,
        )
    return check_id(run, "run")


def _a(role: str) -> str:
    return f"an {role}" if role[:1] in "aeio" else f"a {role}"
