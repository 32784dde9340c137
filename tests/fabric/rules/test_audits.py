"""What an audit says of what was done, in which order, and where the next file begins."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.audits import FORMAT, OPERATIONS, Act, Reached, act_of, operation_of, ordered, previous_of
from session_fabric.rules.chains import Chain
from session_fabric.words.errors import Corrupt, InvalidRequest
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset


def act(ts: int, at: str, session: str | None = None) -> Act:
    return Act(ts, session, "operator:ann", "tenant.held", at, None, None, {})


def file(*lines: dict[str, Any], kind: str = "audit", format: int = FORMAT, **end: Any) -> list[bytes]:
    chain = Chain()
    manifest = {"type": "manifest", "kind": kind, "format": format, "tenant": "acme", "previous": None, "since": 0}
    return [chain.line(each) for each in (manifest, *lines, {"type": "end", **end})]


@pytest.mark.parametrize("type", OPERATIONS)
def test_an_event_says_who_did_what_and_nothing_of_what_was_said(type: str) -> None:
    named = type + "x" if type.endswith(".") else type
    body = {
        "action": "cancel",
        "request": "q1",
        "text": "secret",
        "body": {"approved": True},
        "reason": {"deep": "secret"},
    }
    event = Event(Offset(3, 7), "e1", named, "user:ada", "r1", 1234, orjson.dumps({"type": named, **body}))
    found = act_of("chat", event)
    assert (found.ts, found.session, found.actor, found.act) == (1234, "chat", "user:ada", named)
    assert (found.at, found.run) == (str(Offset(3, 7)), "r1")
    wanted = "control:cancel" if type == "control.requested" else OPERATIONS[type]
    assert found.operation == wanted
    approved = {"approved": True} if type == "input.answered" else {}
    assert found.facts == {"action": "cancel", "request": "q1", **approved}


def test_what_is_said_is_no_act() -> None:
    for type in ("message.user", "message.completed", "RUN_STARTED", "app.note", "presence.updated", "cursor.moved"):
        assert operation_of(type) is None


sources = st.lists(st.lists(st.integers(0, 20), max_size=8), max_size=5)


@given(sources)
def test_acts_are_told_once_and_by_time_but_never_before_one_that_they_followed(times: list[list[int]]) -> None:
    """Clocks of the broker's nodes differ, and so a log's times may go back; its order counts."""
    found = [[act(ts, f"{which}-{n}") for n, ts in enumerate(of)] for which, of in enumerate(times)]
    told = ordered(found)
    assert sorted(each.at for each in told) == sorted(each.at for of in found for each in of)
    for which, of in enumerate(found):
        assert [each for each in told if each.at.startswith(f"{which}-")] == of
    if all(of == sorted(of) for of in times):
        assert [each.ts for each in told] == sorted(each.ts for each in told)


def test_where_many_sessions_have_come_to_is_read_as_it_was_written() -> None:
    sessions = {f"chat-{n}": Offset(5, n) for n in range(2500)}
    reached = Reached(17, 1234, sessions)
    lines = file(*reached.lines(), revision=17, ts=1234)
    assert len(lines) == 5
    assert previous_of(lines).begin.reached == reached


def test_a_session_is_told_from_where_it_had_come_to_or_from_its_beginning_where_it_is_another() -> None:
    reached = Reached(sessions={"chat": Offset(5, 70)})
    assert reached.after("chat", 5, 60) == 70
    assert reached.after("chat", 6, 60) == 60
    assert reached.after("other", 5, 60) == 60


def test_an_act_of_the_bucket_is_told_by_its_revision_and_again_where_the_bucket_was_made_anew() -> None:
    reached = Reached().further([(3, 100), (9, 90)], {})
    assert (reached.revision, reached.ts) == (9, 100)
    assert reached.tells(9, 90)
    assert not reached.tells(10, 95), "another node's clock is behind"
    assert not reached.tells(1, 101), "made anew"
    assert reached.further([], {})[:2] == (9, 100)


def test_what_cannot_be_continued_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no audit"):
        previous_of(file(kind="session", format=1))
    for wrong in (
        file(revision=1),
        file({"type": "reached", "sessions": []}, revision=1, ts=1),
        file({"type": "act"}, format=1),
        file(format=3, revision=1, ts=1),
    ):
        with pytest.raises(Corrupt):
            previous_of(wrong)
    with pytest.raises(Corrupt, match="reads format 1 and 2"):
        previous_of(file(format=3, revision=1, ts=1))
