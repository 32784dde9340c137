"""A run in the making: its newest event by offset says how it stands, whenever that arrives."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from session_fabric.rules.messages import Run, RunState
from session_fabric.words import events
from session_fabric.words.errors import InvalidOffset
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset

_STATES: Final[Mapping[str, RunState]] = {
    events.RUN_CLAIMED: "claimed",
    events.RUN_STARTED: "running",
    events.RUN_SUSPENDED: "suspended",
    events.RUN_RESUMED: "running",
    events.RUN_ORPHANED: "orphaned",
    events.RUN_TAKEN_OVER: "running",
    events.RUN_FINISHED: "completed",
    events.RUN_ERROR: "failed",
}
RUN_EVENTS: Final = frozenset(_STATES)


class GrowingRun:
    """What the events of a run's life say about it, each thing by the newest event that says it."""

    __slots__ = ("_said", "actor", "first", "id", "since")

    def __init__(self, id: str, event: Event) -> None:
        self.id = id
        self.first = self.since = event.offset
        self.actor = event.actor
        self._said: dict[str, tuple[Offset, Any]] = {}

    @property
    def state(self) -> RunState:
        state: RunState = self._get("state")
        return state

    @property
    def message(self) -> str | None:
        """The id of the message that it answers."""
        message: str | None = self._get("message")
        return message

    def add(self, event: Event, body: Mapping[str, Any]) -> None:
        if event.offset < self.first:
            self.first, self.actor = event.offset, event.actor
        self.since = max(self.since, event.offset)
        failed = event.type == events.RUN_ERROR
        self._say(event, "state", _state(event.type, body))
        self._say(event, "request", _text(body, "request") if event.type == events.RUN_SUSPENDED else None)
        self._say(event, "error", _text(body, "message") if failed else None)
        self._say(event, "code", _text(body, "code") if failed else None)
        if agent := _text(body, "agent"):
            self._say(event, "agent", agent)
        if type(body.get("generation")) is int:
            self._say(event, "generation", body["generation"])
        if event.type == events.RUN_STARTED:
            for name in ("pool", "message", "input"):
                self._say(event, name, _text(body, name))

    def run(self) -> Run:
        """Return the run as it is now."""
        asked: Offset | None = None
        with suppress(InvalidOffset):
            asked = Offset.parse(self._get("input") or "")
        return Run(
            id=self.id,
            state=self.state,
            agent=self._get("agent") or self.actor,
            since=self.since,
            generation=self._get("generation") or 1,
            pool=self._get("pool"),
            input=asked,
            message=self.message,
            request=self._get("request"),
            error=self._get("error"),
            code=self._get("code"),
        )

    def _say(self, event: Event, name: str, value: object) -> None:
        known = self._said.get(name)
        if known is None or event.offset > known[0]:
            self._said[name] = (event.offset, value)

    def _get(self, name: str) -> Any:
        return self._said.get(name, (None, None))[1]


def _state(type: str, body: Mapping[str, Any]) -> RunState:
    if type == events.RUN_FINISHED:
        outcome = body.get("outcome")
        kind = outcome.get("type") if isinstance(outcome, dict) else outcome
        return "completed" if kind in (None, "success") else "cancelled"
    return _STATES[type]


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None
