"""Which tool calls are in flight, whatever the order in which events come."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from session_fabric.rules.tools import ToolsInFlight
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset


def event(number: int, type: str, run: str | None = "r1", **body: Any) -> Event:
    raw = orjson.dumps({"type": type, **body})
    return Event(Offset(1, number), f"e{number}", type, "agent:a", run, 1000 + number, raw)


def folded(*events: Event) -> dict[str, Any]:
    tools = ToolsInFlight()
    for one in events:
        tools.add(one)
    return tools.body()


START = event(1, "TOOL_CALL_START", toolCallId="c1", toolCallName="search", parentMessageId="m1")
RESULT = event(2, "TOOL_CALL_RESULT", toolCallId="c1", content="found")
FINISHED = event(3, "RUN_FINISHED", runId="r1")
ASKED = event(1, "tool.requested", request="q1", run="r1", tool="camera", to="user:ada", deadline_ms=None, call="c9")
CLAIMED = event(2, "tool.claimed", request="q1", by="user:ada", device="d1", until=5000)


TYPES = ["TOOL_CALL_START", "TOOL_CALL_RESULT", "tool.requested", "tool.claimed", "STEP_STARTED"]


def test_a_call_is_in_flight_until_its_result() -> None:
    assert folded(START)["calls"] == [
        {
            "id": "c1",
            "name": "search",
            "run": "r1",
            "by": "agent:a",
            "message": "m1",
            "since": str(START.offset),
            "ts": 1001,
        }
    ]
    assert folded(START, RESULT)["calls"] == []


def test_a_call_without_a_result_ends_with_its_run() -> None:
    assert folded(START, FINISHED)["calls"] == []
    assert len(folded(START, event(3, "RUN_ERROR", "r2"))["calls"]) == 1


def test_a_call_outside_of_a_run_is_nobodys() -> None:
    assert folded(event(1, "TOOL_CALL_START", None, toolCallId="c1"))["calls"] == []


def test_what_a_failed_attempt_began_is_not_in_flight() -> None:
    assert folded(START, event(2, "STEP_STARTED", stepName="s", attempt=2, supersedes=["m1"]))["calls"] == []
    assert len(folded(START, event(2, "STEP_STARTED", stepName="s", supersedes=["m2"]))["calls"]) == 1


def test_a_request_is_open_until_it_is_answered_and_says_who_works_on_it() -> None:
    assert folded(ASKED)["requests"][0]["claimed"] is None
    (request,) = folded(ASKED, CLAIMED)["requests"]
    assert (request["request"], request["tool"], request["to"], request["call"]) == ("q1", "camera", "user:ada", "c9")
    assert request["claimed"] == {"by": "user:ada", "device": "d1", "until": 5000}
    for outcome in ("tool.answered", "tool.expired"):
        assert folded(ASKED, CLAIMED, event(3, outcome, request="q1"))["requests"] == []


@pytest.mark.parametrize("order", list(itertools.permutations([START, RESULT, FINISHED])))
def test_late_events_change_nothing(order: tuple[Event, ...]) -> None:
    assert folded(*order, *order) == {"calls": [], "requests": []}


@pytest.mark.parametrize(
    "body",
    [{}, {"toolCallId": 7}, {"toolCallId": None}, {"request": []}, {"supersedes": "m1"}, {"supersedes": [1, {}]}],
)
@pytest.mark.parametrize("type", TYPES)
def test_bodies_without_ids_change_nothing(type: str, body: dict[str, Any]) -> None:
    assert folded(START, event(2, type, **body)) == folded(START)
