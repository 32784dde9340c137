"""How the floor changes hands: whatever is tried, by whomever, in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules import floor as rules
from session_fabric.rules.floor import FloorState
from session_fabric.words.errors import FabricError, Forbidden, InvalidRequest, NotHolder

PEOPLE = ["user:ada", "operator:eve", "operator:bob", "supervisor:sue", "agent:a", "agent:b"]
people = st.sampled_from(PEOPLE)
holders = st.sampled_from(["h1", "h2"])
Step = Callable[[FloorState], FloorState]
steps = st.one_of(
    st.builds(lambda who, h: lambda s: rules.claim(s, who, h), st.sampled_from(["agent:a", "agent:b"]), holders),
    st.builds(lambda h: lambda s: rules.release(s, h), holders),
    st.builds(lambda who: lambda s: rules.take(s, who), people),
    st.builds(lambda who: lambda s: rules.give_back(s, who), people),
    st.builds(lambda to, who: lambda s: rules.accept(s, to, who), st.sampled_from([*PEOPLE, "role:operator"]), people),
)


@given(st.lists(steps, max_size=12))
def test_the_generation_rises_with_each_change_and_a_refusal_changes_nothing(tried: list[Step]) -> None:
    state = FloorState("default")
    for step in tried:
        try:
            new = step(state)
        except FabricError:
            continue
        assert new.generation == state.generation + 1
        assert (new.holder is None) or new.participant is not None
        assert rules.read("default", 7, {"floor": new.plain()}) == new._replace(sequence=7)
        state = new


@given(st.lists(steps, max_size=8), st.sampled_from(["agent:a", "agent:b"]), holders)
def test_no_agent_takes_a_floor_that_is_anothers(tried: list[Step], agent: str, holder: str) -> None:
    state = FloorState("default")
    for step in tried:
        with suppress(FabricError):
            state = step(state)
    if state.participant is not None and state.holder != holder:
        with pytest.raises(NotHolder):
            rules.claim(state, agent, holder)
    else:
        assert rules.claim(state, agent, holder).holder == holder


@pytest.mark.parametrize("who", ["user:ada", "agent:a"])
def test_only_staff_takes_the_floor_unasked(who: str) -> None:
    with pytest.raises(Forbidden):
        rules.take(FloorState("default"), who)


def test_a_person_gives_back_what_is_theirs_and_a_supervisor_what_is_others() -> None:
    eves = rules.take(FloorState("default"), "operator:eve")
    with pytest.raises(NotHolder, match="operator:eve has the floor"):
        rules.give_back(eves, "operator:bob")
    assert rules.give_back(eves, "operator:eve").participant is None
    assert rules.give_back(eves, "supervisor:sue").participant is None
    with pytest.raises(NotHolder, match="Nobody has"):
        rules.give_back(FloorState("default"), "operator:eve")


@pytest.mark.parametrize(
    "to", [None, 3, "", "nobody", "role:king", "pool:default", "pool:", "operator:", "operator:eve", "agent:a"]
)
def test_an_offer_to_nobody_or_to_oneself_is_refused(to: object) -> None:
    state = rules.claim(FloorState("default"), "agent:a", "h1")
    with pytest.raises(FabricError):
        rules.check_offer(state, "operator:eve", to, "", 1000)


def test_an_offer_is_made_by_who_has_the_floor_or_by_staff() -> None:
    state = rules.claim(FloorState("default"), "agent:a", "h1")
    rules.check_offer(state, "agent:a", "role:operator", "help", 1000)
    rules.check_offer(state, "operator:eve", "operator:bob", "", 1000)
    with pytest.raises(NotHolder):
        rules.check_offer(state, "user:ada", "role:operator", "", 1000)
    with pytest.raises(InvalidRequest, match="deadline_ms"):
        rules.check_offer(state, "agent:a", "role:operator", "", 0)
    with pytest.raises(InvalidRequest, match="note"):
        rules.check_offer(state, "agent:a", "role:operator", "x" * 5000, 1000)


def test_what_is_offered_is_taken_by_whom_it_was_offered_to() -> None:
    state = FloorState("default")
    assert rules.accept(state, "role:operator", "operator:bob").participant == "operator:bob"
    assert rules.accept(state, "pool:billing", "agent:b", "billing").delegate == "billing"
    for to, who, pool in (("operator:eve", "operator:bob", None), ("pool:billing", "agent:b", "sales")):
        with pytest.raises(Forbidden, match="offered to"):
            rules.accept(state, to, who, pool)


@pytest.mark.parametrize("body", [{}, {"floor": 3}, {"floor": {"participant": 3, "generation": "x"}}])
def test_what_a_stranger_wrote_counts_as_nobodys(body: dict[str, object]) -> None:
    state = rules.read("default", 5, body)
    assert (state.participant, state.holder, state.generation, state.sequence) == (None, None, 0, 5)
