"""Who may answer a request, and where it stands."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules import requests as rules
from session_fabric.rules.asked import open_requests
from session_fabric.rules.questions import check_answer, is_addressed
from session_fabric.rules.requests import CLAIM_MS, Claim, Request, Standing
from session_fabric.words.errors import AlreadyAnswered, AlreadyClaimed, InvalidRequest, RequestClosed
from session_fabric.words.events import Event
from session_fabric.words.names import is_id
from session_fabric.words.positions import Offset

NOW = 1_764_000_000_000


def event(type: str, at: int, body: dict[str, Any], actor: str = "agent:writer", ts: int = NOW, id: str = "") -> Event:
    raw = orjson.dumps({"type": type, **body})
    return Event(Offset(1, at), id or f"e{at}", type, actor, body.get("run"), ts, raw)


def tool(at: int = 1, id: str = "q1", run: str = "r1", **more: Any) -> Event:
    body = {"request": id, "run": run, "tool": "t", "args": {}, "to": None, "deadline_ms": None, "call": id}
    return event("tool.requested", at, {**body, **more}, id=id)


def claimed(at: int, until: int, by: str = "user:ada", ts: int = NOW) -> Event:
    body = {"request": "q1", "run": "r1", "by": by, "device": "d1", "until": until}
    return event("tool.claimed", at, body, by, ts)


def answered(at: int, by: str = "user:ada") -> Event:
    return event("tool.answered", at, {"request": "q1", "run": "r1", "by": "user:liar", "result": 1}, by)


def asked(one: Event) -> Request:
    request = rules.parse_request(one)
    assert request is not None
    return request


@pytest.mark.parametrize(
    ("to", "participant", "device", "may"),
    [
        (None, "user:ada", None, True),
        ("user:ada", "user:ada", "d1", True),
        ("user:ada", "user:bob", None, False),
        ("role:user", "user:bob", None, True),
        ("role:operator", "user:bob", None, False),
        ({"participant": "user:ada", "device": "d1"}, "user:ada", "d1", True),
        ({"participant": "user:ada", "device": "d1"}, "user:ada", None, False),
        ({"participant": "user:ada", "device": "d1"}, "user:bob", "d1", False),
        (7, "user:ada", None, False),
    ],
)
def test_a_request_is_for_those_it_is_addressed_to(to: Any, participant: str, device: str | None, may: bool) -> None:
    assert is_addressed(to, participant, device) is may


def test_a_claim_lasts_30_seconds_of_the_brokers_clock_at_most_whatever_the_claimers_says() -> None:
    request, standing = asked(tool()), rules.standing_of(claimed(2, NOW + 3_600_000))
    assert standing.claim == Claim("user:ada", "d1", NOW + CLAIM_MS)
    at_work = rules.refusal(request, standing, "user:bob", None, NOW + CLAIM_MS - 1)
    assert isinstance(at_work, AlreadyClaimed)
    assert rules.refusal(request, standing, "user:bob", None, NOW + CLAIM_MS) is None
    assert rules.refusal(request, standing, "user:ada", "d1", NOW) is None
    assert isinstance(rules.refusal(request, standing, "user:ada", "d2", NOW), AlreadyClaimed)


def test_who_answered_is_who_wrote_the_answer_and_not_whom_its_body_names() -> None:
    refused = rules.refusal(asked(tool()), rules.standing_of(answered(3)), "user:bob", None, NOW)
    assert isinstance(refused, AlreadyAnswered)
    assert (refused.facts["by"], refused.facts["offset"]) == ("user:ada", str(Offset(1, 3)))


@pytest.mark.parametrize("reason", ["deadline", "run_ended"])
def test_an_expired_request_is_closed(reason: Any) -> None:
    request = asked(tool())
    over = event("tool.expired", 2, rules.expiry(request, reason, "service:fabric"))
    refused = rules.refusal(request, rules.standing_of(over), "user:ada", None, NOW)
    assert isinstance(refused, RequestClosed)
    assert (refused.facts["outcome"], refused.facts["reason"]) == ("tool.expired", reason)


def test_open_are_those_without_an_outcome_whose_run_goes_on_and_whose_deadline_is_to_come() -> None:
    log = [
        tool(1, "q1"),
        tool(2, "q2", run="r2"),
        tool(3, "q3", deadline_ms=10),
        tool(4, "q4"),
        answered(5),
        event("RUN_FINISHED", 6, {"run": "r2"}),
        event("tool.requested", 7, {"run": "no run!", "tool": "t"}, id="q7"),
        event("input.requested", 8, {"run": "r1", "kind": "dance"}, id="q8"),
    ]
    assert [r.request for r in open_requests(log, NOW)] == ["q3", "q4"]
    assert [r.request for r in open_requests(log, NOW + 10)] == ["q4"]
    assert [r.request for r in open_requests(reversed(log), NOW)] == ["q3", "q4"]


def test_a_request_without_claims_stands_at_nothing() -> None:
    assert rules.standing_of(None) == Standing() == Standing(0, None, None)


@given(st.text("ab.-", min_size=1, max_size=128), st.sampled_from(["tool", "approval"]), st.integers(1, 10**6))
def test_ids_that_are_made_are_ids_and_differ(run: str, kind: str, number: int) -> None:
    one = rules.request_id(run, kind, number)
    assert is_id(one)
    assert one != rules.request_id(run, kind, number + 1)
    answer = rules.answer_id(one, "user:ada", "d1", {"body": 1})
    assert is_id(answer)
    assert answer == rules.answer_id(one, "user:ada", "d1", {"body": 1})
    assert answer not in (
        rules.answer_id(one, "user:ada", "d1", {"body": 2}),
        rules.answer_id(one, "user:ada", "d2", {"body": 1}),
        rules.answer_id(one, "user:bob", "d1", {"body": 1}),
    )


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_what_is_no_approval_is_refused_and_never_breaks(body: Any) -> None:
    with pytest.raises(InvalidRequest):
        check_answer("approval", {}, body)
