"""Legal holds."""

from __future__ import annotations

import pytest
from session_fabric.rules.holds import MOST_HOLDS, Hold, check, placed, released
from session_fabric.words.errors import HoldNotFound, InvalidRequest, LimitExceeded, SessionHeld


def hold(name: str, reason: str = "Case 17") -> Hold:
    return Hold(name=name, reason=reason, by="operator:ann", since=1)


def test_holds_add_up_and_the_first_of_a_name_stays() -> None:
    holds = placed(placed((), hold("a")), hold("b"))
    assert placed(holds, hold("a", "Another reason")) == holds
    assert released(holds, "a") == (hold("b"),)


def test_what_cannot_be_released_is_said_with_what_can() -> None:
    with pytest.raises(HoldNotFound, match="No hold is called 'c'") as refused:
        released((hold("a"), hold("b")), "c")
    assert refused.value.hint == "There are: a, b."


@pytest.mark.parametrize("bad", [hold(""), hold("a b"), hold("-a"), hold("a", " "), hold("a", "x" * 1001)])
def test_a_hold_without_a_name_or_a_reason_is_refused(bad: Hold) -> None:
    with pytest.raises(InvalidRequest):
        placed((), bad)


def test_there_is_an_end_to_holds() -> None:
    holds = tuple(hold(f"h{n}") for n in range(MOST_HOLDS))
    with pytest.raises(LimitExceeded):
        placed(holds, hold("more"))


def test_what_is_held_is_refused_with_whose_hold_it_is() -> None:
    check("chat-1", ())
    with pytest.raises(SessionHeld, match="held by operator:ann") as refused:
        check("chat-1", [hold("case-17")])
    assert refused.value.facts | {"hold": "case-17", "by": "operator:ann", "tenant": False} == refused.value.facts
    assert "fabricctl session release chat-1 --hold case-17" in refused.value.hint
    with pytest.raises(SessionHeld, match="Its tenant") as refused:
        check("chat-1", [], [hold("case-17")])
    assert refused.value.facts["tenant"]
