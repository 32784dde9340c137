"""What becomes of a message that comes while an agent is at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.policy import WAYS, Policy, WhenBusy, next_move, parse_policy, way_of
from session_fabric.words.errors import InvalidRequest

ways = st.sampled_from(WAYS)


@given(ways, st.booleans(), st.booleans())
def test_with_nothing_under_way_every_message_is_answered(way: WhenBusy, steerable: bool, stopping: bool) -> None:
    assert next_move(way, 0, steerable=steerable, stopping=stopping) == "start"


@pytest.mark.parametrize(
    ("way", "steerable", "stopping", "move"),
    [
        ("queue", True, False, "wait"),
        ("concurrent", False, False, "start"),
        ("interrupt", False, False, "interrupt"),
        ("interrupt", False, True, "wait"),  # they have been told
        ("steer", True, False, "steer"),
        ("steer", False, False, "wait"),  # nobody listens: it is answered afterwards
        ("steer", True, True, "wait"),  # it would be lost in a run that stops
        ("reject", True, False, "reject"),
    ],
)
def test_with_runs_under_way_the_policy_decides(way: WhenBusy, steerable: bool, stopping: bool, move: str) -> None:
    assert next_move(way, 2, steerable=steerable, stopping=stopping) == move


@given(ways, ways)
def test_a_message_may_say_otherwise_than_its_session(policy: WhenBusy, said: WhenBusy) -> None:
    assert way_of(Policy(when_busy=policy), {"when_busy": said}) == said
    assert way_of(Policy(when_busy=policy), {}) == policy
    assert way_of(Policy(when_busy=policy), {"when_busy": "shout"}) == policy


@given(ways, ways)
def test_where_the_policy_is_strict_no_message_says_otherwise(policy: WhenBusy, said: WhenBusy) -> None:
    strict = Policy(when_busy=policy, strict=True)
    assert way_of(strict, {"when_busy": said}) == way_of(strict, {}) == policy


@given(ways, ways)
def test_a_redirect_interrupts_where_the_policy_is_strict_and_does_nothing_else(
    policy: WhenBusy, said: WhenBusy
) -> None:
    way = way_of(Policy(when_busy=policy, strict=True), {"when_busy": said, "redirects": "r1"})
    assert way == ("interrupt" if said == "interrupt" else policy)


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"when_busy": "shout"}, "when_busy"),
        ({"answer_within_s": 0}, "answer_within_s"),
        ({"answer_within_s": "soon"}, "answer_within_s"),
        ({"colour": "red"}, "colour"),
        ({"strict": "no"}, "strict"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_field(given_: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        parse_policy(given_)
