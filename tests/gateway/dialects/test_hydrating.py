"""What a page of TanStack's is given when it is loaded."""

from __future__ import annotations

from typing import Any

import pytest
from session_fabric.rules.messages import Message, Run, ToolCall
from session_fabric.rules.requests import Request
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.positions import Offset
from session_fabric_gateway.dialects.tanstack.hydrating import hydration, ui_message

AT = Offset(1, 1)


def message(id: str, run: str | None = None, **more: Any) -> Message:
    facts: dict[str, Any] = {"role": "user" if run is None else "assistant", "content": id, "reasoning": ""}
    facts |= {"actor": "user:ada", "tool_calls": (), "status": "completed", "first": AT, "last": AT} | more
    return Message(id=id, run=run, **facts)


SHOWN = [message("u1"), message("a1", "r1"), message("u2"), message("a2", "r2")]


def hydrated(going: str | None = None, run: Run | None = None, requests: Any = (), **page: Any) -> dict[str, Any]:
    page = {"limit": None, "before": None} | page
    return hydration(SHOWN, going, run, requests, "user:ada", **page)


def ids(found: dict[str, Any]) -> list[str]:
    return [one["id"] for one in found["messages"]]


def test_a_thread_where_nothing_goes_on_is_shown_whole() -> None:
    found = hydrated()
    assert ids(found) == ["u1", "a1", "u2", "a2"]
    assert (found["activeRun"], found["interrupts"], found["page"]) == (None, None, {"truncated": False})


def test_pages_are_read_to_the_beginning_without_gap_or_repeat() -> None:
    seen: list[str] = []
    before = None
    while True:
        found = hydrated(limit=3, before=before)
        seen = ids(found) + seen
        if not found["page"]["truncated"]:
            break
        before = found["page"]["cursor"]
    assert seen == ["u1", "a1", "u2", "a2"]
    with pytest.raises(InvalidRequest):
        hydrated(before="none")


def test_what_a_run_that_is_to_be_joined_says_is_left_to_it() -> None:
    found = hydrated("r2", Run("r2", "running", "agent:writer", AT))
    assert ids(found) == ["u1", "a1", "u2"]
    assert found["activeRun"] == {"runId": "r2"}


def test_what_this_participant_is_asked_comes_before_joining() -> None:
    run = Run("r2", "suspended", "agent:writer", AT)
    asked = Request("q1", "approval", "r2", None, AT, 0, None, {"title": "Sure?", "kind": "approval"})
    found = hydrated("r2", run, [asked])
    assert ids(found)[-1] == "a2"
    assert found["activeRun"] is None
    assert [one["message"] for one in found["interrupts"]["pending"]] == ["Sure?"]
    others = Request("q1", "approval", "r2", "user:bob", AT, 0, None, {"title": "Sure?", "to": "user:bob"})
    assert hydrated("r2", run, [others])["activeRun"] == {"runId": "r2"}
    tool = Request("c1", "tool", "r2", None, AT, 0, None, {"tool": "search"})
    assert hydrated("r2", run, [tool])["activeRun"] == {"runId": "r2"}  # joined, it is called


def test_a_message_has_its_thoughts_its_words_and_its_tools() -> None:
    calls = (ToolCall("c1", "search", '{"q":1}', '{"found":3}'), ToolCall("c2", "wait", "{", None))
    parts = ui_message(message("m", "r1", reasoning="Hm.", content="Yes", tool_calls=calls))["parts"]
    assert [part["type"] for part in parts] == ["thinking", "text", "tool-call", "tool-result", "tool-call"]
    assert (parts[2]["input"], parts[2]["output"], parts[2]["state"]) == ({"q": 1}, {"found": 3}, "complete")
    assert (parts[4]["state"], "input" in parts[4]) == ("input-complete", False)


def test_a_users_parts_are_spelled_as_its_client_sent_them() -> None:
    image = {"type": "image", "source": {"type": "url", "value": "https://example.com/a.png"}}
    said = message("u", content=[{"type": "text", "text": "Look"}, image])
    assert ui_message(said)["parts"] == [{"type": "text", "content": "Look"}, image]
