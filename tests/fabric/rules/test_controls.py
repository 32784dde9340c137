"""What a run answers to what is asked of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.controls import ACTIONS, MAX_DEADLINE_MS, STOPPING, decide, leaving_ms
from session_fabric.rules.routing import run_of, run_of_input
from session_fabric.words.names import check_id

actions = st.sampled_from([*ACTIONS, "explode"])
times = st.integers(0, 2**40)


@given(actions, times, st.integers(1, MAX_DEADLINE_MS), times, st.booleans(), st.booleans())
def test_a_request_has_one_verdict_and_only_a_rejection_or_an_expiry_a_reason(
    action: str, asked: int, deadline: int, now: int, leaving: bool, steerable: bool
) -> None:
    verdict, reason = decide(action, asked, deadline, now, leaving=leaving, steerable=steerable)
    assert bool(reason) == (verdict in ("reject", "expire"))
    assert (verdict == "expire") == (now > asked + deadline)
    if verdict == "stop":
        assert action in STOPPING
        assert not leaving


@given(st.one_of(st.none(), st.text(), st.floats()))
def test_a_deadline_that_a_stranger_wrote_is_none(deadline: object) -> None:
    assert decide("cancel", 0, deadline, 10**12, leaving=False, steerable=False) == ("stop", "")
    assert leaving_ms(deadline) == 5000


@given(st.integers())
def test_an_author_has_a_second_and_ten_minutes_at_most(deadline: int) -> None:
    assert 1000 <= leaving_ms(deadline) <= MAX_DEADLINE_MS


@given(st.text(min_size=1, max_size=200))
def test_the_run_of_an_input_is_the_same_whoever_works_it_out(id: str) -> None:
    assert run_of_input(id) == run_of_input(id)
    assert check_id(run_of_input(id), "run")
    assert run_of("another", {"origin": id}) == run_of(id, {}) == run_of_input(id)


@pytest.mark.parametrize("origin", [None, 3, ["x"]])
def test_an_origin_that_is_no_id_is_none(origin: object) -> None:
    assert run_of("id", {"origin": origin}) == run_of_input("id")
