"""What may be asked of a run, and what it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from session_fabric.words.errors import InvalidEvent, InvalidRequest

Action = Literal["cancel", "interrupt", "steer", "redirect"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
STOPPING: Final = frozenset({"cancel", "interrupt", "redirect"})
MAX_DEADLINE_MS: Final = 600_000
# A cancelled run has this long to leave before it is ended over its author's head, however short the deadline was.
LEAST_LEAVING_MS: Final = 1000

Verdict = Literal["stop", "steer", "expire", "reject"]


def check_request(action: str, body: Mapping[str, Any], deadline_ms: int) -> None:
    """Raise `InvalidRequest` for what no run could answer."""
    if action not in ACTIONS:
        known = f"{', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}"
        raise InvalidRequest(f"{action!r:.40} is not a control action.", hint=f"Use {known}.", action=action)
    if not 1 <= deadline_ms <= MAX_DEADLINE_MS:
        most = MAX_DEADLINE_MS
        raise InvalidRequest(f"deadline_ms is {deadline_ms}.", hint=f"Use 1 to {most}.", limit=most)
    if action == "steer" and not (isinstance(body.get("text"), str) and body["text"]):
        raise InvalidRequest("A steer needs a `text` in its body.", hint='For example {"text":"Shorter, please"}.')
    if action == "redirect" and not isinstance(body.get("message"), dict):
        raise InvalidEvent(
            "A redirect needs a `message` in its body: what to do instead.",
            hint='For example {"message":{"id":"m2","role":"user","content":"In French, please"}}.',
        )


def decide(
    action: str, asked_ms: int, deadline_ms: object, now_ms: int, *, leaving: bool, steerable: bool
) -> tuple[Verdict, str]:
    """Return what a run does with a request, and the reason where it rejects it. Times are milliseconds since 1970."""
    if isinstance(deadline_ms, int) and now_ms > asked_ms + deadline_ms:
        return "expire", "deadline"
    if leaving:
        return "reject", "the run is ending"
    if action in STOPPING:
        return "stop", ""
    if action == "steer":
        return ("steer", "") if steerable else ("reject", "unsupported")
    return "reject", "unsupported"


def leaving_ms(deadline_ms: object) -> int:
    """Return how long an author who was told to stop may take."""
    return max(LEAST_LEAVING_MS, min(deadline_ms, MAX_DEADLINE_MS)) if isinstance(deadline_ms, int) else 5000
