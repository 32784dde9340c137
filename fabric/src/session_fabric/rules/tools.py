"""Which tool calls are in flight: begun and without a result, in runs that have not ended."""

from __future__ import annotations

from typing import Any, Final

from session_fabric.words import events
from session_fabric.words.events import Event

_START: Final = "TOOL_CALL_START"
_RESULT: Final = "TOOL_CALL_RESULT"
TYPES: Final = frozenset(
    {
        _START,
        _RESULT,
        events.TOOL_REQUESTED,
        events.TOOL_CLAIMED,
        events.TOOL_ANSWERED,
        events.TOOL_EXPIRED,
        events.STEP_STARTED,
        *events.RUN_ENDS,
    }
)


class ToolsInFlight:
    """Fold a session's events into the body of `_tools`; an event folded twice, or late, changes nothing."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Any]] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._closed: set[tuple[str, str]] = set()

    def add(self, event: Event) -> None:
        if event.type not in TYPES:
            return
        body = event.body
        match event.type:
            case "TOOL_CALL_START":
                self._began(event, body)
            case "TOOL_CALL_RESULT":
                self._close("call", body.get("toolCallId"))
            case events.TOOL_REQUESTED:
                self._asked(event, body)
            case events.TOOL_CLAIMED:
                request = self._requests.get(str(body.get("request")))
                if request is not None:
                    request["claimed"] = {key: body.get(key) for key in ("by", "device", "until")}
            case events.TOOL_ANSWERED | events.TOOL_EXPIRED:
                self._close("request", body.get("request"))
            case events.STEP_STARTED:
                # What a failed attempt had begun, nobody waits for any more.
                for message in _texts(body.get("supersedes")):
                    for id in [id for id, call in self._calls.items() if call["message"] == message]:
                        self._close("call", id)
            case _:
                self._close("run", event.run or body.get("runId"))

    def body(self) -> dict[str, Any]:
        """Return `calls` and `requests` in the order in which they began."""
        return {
            "calls": sorted((dict(call) for call in self._calls.values()), key=_since),
            "requests": sorted((dict(request) for request in self._requests.values()), key=_since),
        }

    def _began(self, event: Event, body: dict[str, Any]) -> None:
        id = body.get("toolCallId")
        if isinstance(id, str) and event.run is not None and not self._over("call", id, event.run):
            self._calls[id] = {
                "id": id,
                "name": str(body.get("toolCallName", "")),
                "run": event.run,
                "by": event.actor,
                "message": body.get("parentMessageId"),
                "since": str(event.offset),
                "ts": event.ts,
            }

    def _asked(self, event: Event, body: dict[str, Any]) -> None:
        id, run = body.get("request"), event.run or body.get("run")
        if isinstance(id, str) and isinstance(run, str) and not self._over("request", id, run):
            known = self._requests.get(id, {})
            self._requests[id] = {
                "request": id,
                "tool": body.get("tool"),
                "call": body.get("call"),
                "run": run,
                "by": event.actor,
                "to": body.get("to"),
                "deadline_ms": body.get("deadline_ms"),
                "claimed": known.get("claimed"),
                "since": str(event.offset),
                "ts": event.ts,
            }

    def _over(self, what: str, id: str, run: str) -> bool:
        return (what, id) in self._closed or ("run", run) in self._closed

    def _close(self, what: str, id: object) -> None:
        if not isinstance(id, str):
            return
        self._closed.add((what, id))
        if what == "call":
            self._calls.pop(id, None)
        elif what == "request":
            self._requests.pop(id, None)
        else:
            self._calls = {key: call for key, call in self._calls.items() if call["run"] != id}
            self._requests = {key: request for key, request in self._requests.items() if request["run"] != id}


def _since(value: dict[str, Any]) -> str:
    return str(value["since"])


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
