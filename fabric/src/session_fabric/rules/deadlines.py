"""When what was asked has waited for too long, and when to look at it again until then. Pure: `now` comes in."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from session_fabric.rules.controls import STOPPING
from session_fabric.rules.questions import MAX_DEADLINE_MS
from session_fabric.words.events import (
    CONTROL_REQUESTED,
    HANDOFF_OFFERED,
    INPUT_REQUESTED,
    MESSAGE_FORWARDED,
    MESSAGE_REGENERATE,
    MESSAGE_USER,
    POOL_RUNG,
    TOOL_REQUESTED,
)

# Most of what is asked is settled long before its deadline. It is looked at soon, and ever more seldom, so that what
# is settled is not kept at hand: a durable subscription holds no more than 10,000 events back.
FIRST_LOOK_MS: Final = 5_000
# Of a stop: the process that it was asked of may have died, and until its run is orphaned that looks like one at work.
FIRST_LOOK_AT_STOPS_MS: Final = 1_000
SELDOM_MS: Final = 600_000
INPUTS: Final = frozenset({MESSAGE_USER, MESSAGE_REGENERATE, MESSAGE_FORWARDED})
ASKED: Final = frozenset({CONTROL_REQUESTED, TOOL_REQUESTED, INPUT_REQUESTED, HANDOFF_OFFERED, POOL_RUNG})


class Wait(NamedTuple):
    """Look again after this time."""

    delay_s: float


Verdict = Wait | Literal["done", "due"]


def limit_ms(type: str, body: dict[str, Any], answer_within_s: int) -> int | None:
    """Return how long an event may wait for its outcome since it was stored; None: for ever, or it asks nothing."""
    if type in INPUTS:
        return answer_within_s * 1000
    limit = body.get("deadline_ms") if type in ASKED else None
    if type == CONTROL_REQUESTED and limit is None:
        return answer_within_s * 1000  # as the input that it is about
    if not isinstance(limit, int) or isinstance(limit, bool) or limit <= 0:
        return None
    return min(limit, MAX_DEADLINE_MS)


def first_look_ms(type: str, body: dict[str, Any]) -> int:
    """Return how soon an event is looked at again."""
    stops = type == CONTROL_REQUESTED and body.get("action") in STOPPING
    return FIRST_LOOK_AT_STOPS_MS if stops else FIRST_LOOK_MS


def decide(asked_ms: int, limit_ms: int | None, now_ms: int, first_ms: int = FIRST_LOOK_MS) -> Verdict:
    """Say what is to be done about an event that was stored at `asked_ms` and may wait for `limit_ms`."""
    if limit_ms is None:
        return "done"
    left_ms = asked_ms + limit_ms - now_ms
    if left_ms <= 0:
        return "due"
    return Wait(min(left_ms, _next_look_ms(asked_ms, now_ms, first_ms)) / 1000)


def later(asked_ms: int, now_ms: int) -> Wait:
    """Say when to look again at what is due and has to wait all the same."""
    return Wait(_next_look_ms(asked_ms, now_ms, FIRST_LOOK_MS) / 1000)


def _next_look_ms(asked_ms: int, now_ms: int, first_ms: int) -> int:
    return min(max(first_ms, now_ms - asked_ms), SELDOM_MS)
