"""What a session's events say of its requests: what is asked, and what became of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from session_fabric.rules.requests import (
    ANSWERED,
    ASKED,
    SETTLED,
    Outcome,
    Request,
    is_due,
    parse_request,
    standing_of,
)
from session_fabric.words.events import EVENT_REDACTED, MESSAGE_REDACTED, RUN_OVER, TOOL_CLAIMED, Event


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and what became of it. `ended`: its run has, and nobody can answer any more."""

    request: Request
    outcome: Outcome | None
    ended: bool

    @property
    def state(self) -> Literal["open", "answered", "expired"]:
        if self.outcome is not None:
            return "answered" if self.outcome.type in ANSWERED else "expired"
        return "expired" if self.ended else "open"

    def plain(self) -> dict[str, Any]:
        """Spell it as tests/golden does."""
        request, outcome = self.request, self.outcome
        said: Mapping[str, Any] = {} if outcome is None else outcome.body
        answered = self.state == "answered"
        claimed = None if request.claimed is None else request.claimed._asdict()
        return {
            "request": request.request,
            "kind": request.kind,
            "run": request.run,
            "to": request.to,
            "deadline": request.deadline,
            "state": self.state,
            "claimed": claimed if self.state == "open" else None,
            "by": outcome.by if answered and outcome is not None else None,
            "defaulted": answered and said.get("defaulted") is True,
            "answer": said.get("result" if request.kind == "tool" else "body") if answered else None,
            "error": said.get("error") if answered else None,
            "reason": said.get("reason", "run_ended") if self.state == "expired" else None,
        }


class RequestFold:
    """A session's requests: from its events, in whatever order and however often they come.

    One whose deadline has passed is open until the fabric says that it is over.
    """

    def __init__(self) -> None:
        self._asked: dict[str, Request] = {}
        self._newest: dict[str, Event] = {}
        self._over: set[str] = set()
        self._redacted: set[str] = set()

    def add(self, event: Event) -> None:
        if event.type in (MESSAGE_REDACTED, EVENT_REDACTED):
            gone = event.body.get("requests")
            self._redacted.update(map(str, gone if isinstance(gone, list) else ()))
        elif event.type in ASKED:
            request = parse_request(event)
            if request is not None:
                self._asked.setdefault(request.request, request)
        elif event.type in RUN_OVER:
            self._over.add(event.run or "")
        elif event.type in SETTLED or event.type == TOOL_CLAIMED:
            id = str(event.body.get("request"))
            if id not in self._newest or self._newest[id].offset < event.offset:
                self._newest[id] = event

    def all(self) -> list[Asked]:
        """Return all requests, oldest first."""
        left = [request for id, request in self._asked.items() if id not in self._redacted]
        return [self._asked_of(request) for request in sorted(left, key=lambda asked: asked.offset)]

    def _asked_of(self, request: Request) -> Asked:
        standing = standing_of(self._newest.get(request.request))
        return Asked(replace(request, claimed=standing.claim), standing.outcome, request.run in self._over)


def open_requests(events: Iterable[Event], now_ms: int) -> list[Request]:
    """Fold a session's requests, and what stands on `own` subjects, into those that can be answered, oldest first."""
    fold = RequestFold()
    for event in events:
        fold.add(event)
    return [one.request for one in fold.all() if one.state == "open" and not is_due(one.request, now_ms)]
