"""What may be asked of a run, and what it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from session_fabric.words.arguments import check_whole
from session_fabric.words.errors import InvalidEvent, InvalidRequest
from session_fabric.words.events import CONTROL_OUTCOMES, CONTROL_OVERDUE, CONTROL_REQUESTED, Event

Action = Literal["cancel", "interrupt", "steer", "redirect"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
STOPPING: Final = frozenset({"cancel", "interrupt", "redirect"})
MAX_DEADLINE_MS: Final = 600_000
# Of what is asked of a run that has begun, and names none.
DEADLINE_MS: Final = 5000
# A cancelled run has this long to leave before it is ended over its author's head, however short the deadline was.
LEAST_LEAVING_MS: Final = 1000

Verdict = Literal["stop", "steer", "expire", "reject"]


def check_request(action: str, body: Mapping[str, Any], deadline_ms: int | None) -> None:
    """Raise `InvalidRequest` for what no run could answer."""
    if action not in ACTIONS:
        known = f"{', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}"
        raise InvalidRequest(f"{action!r:.40} is not a control action.", hint=f"Use {known}.", action=action)
    if deadline_ms is not None:
        check_whole(deadline_ms, "deadline_ms", 1, MAX_DEADLINE_MS)
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
    return max(LEAST_LEAVING_MS, min(deadline_ms, MAX_DEADLINE_MS)) if isinstance(deadline_ms, int) else DEADLINE_MS


class Control(NamedTuple):
    """A request to a run and what became of it. `state` is `requested` until the run or the fabric has answered;
    `overdue`: the agent's code had not stopped by the deadline. `reason`: why it was not accepted."""

    request: str
    action: str
    run: str
    by: str
    state: str
    reason: str | None
    overdue: bool


class ControlFold:
    """A session's control requests: from its events, in whatever order and however often they come."""

    def __init__(self) -> None:
        self._asked: dict[str, Event] = {}
        self._outcomes: dict[str, Event] = {}
        self._overdue: set[str] = set()

    def add(self, event: Event) -> None:
        if event.type == CONTROL_REQUESTED:
            self._asked.setdefault(event.id, event)
        elif event.type == CONTROL_OVERDUE:
            self._overdue.add(str(event.body.get("request")))
        elif event.type in CONTROL_OUTCOMES:
            self._outcomes.setdefault(str(event.body.get("request")), event)

    def all(self) -> list[Control]:
        """Return all requests, oldest first."""
        return [self._control(asked) for asked in sorted(self._asked.values(), key=lambda event: event.offset)]

    def _control(self, asked: Event) -> Control:
        outcome, body = self._outcomes.get(asked.id), asked.body
        reason = None if outcome is None else outcome.body.get("reason")
        return Control(
            request=asked.id,
            action=str(body.get("action")),
            run=str(body.get("run")),
            by=asked.actor,
            state="requested" if outcome is None else outcome.type.removeprefix("control."),
            reason=reason if isinstance(reason, str) else None,
            overdue=asked.id in self._overdue,
        )


def actions_of(body: object) -> list[Action]:
    """Return what an appended event asks of a run that is under way, as a control request would."""
    if not isinstance(body, Mapping):
        return []
    found: list[Action] = ["redirect"] if "redirects" in body else []
    match body.get("when_busy"):
        case "interrupt" | "steer" as action:
            found.append(action)
    return found
