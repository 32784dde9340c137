"""The checker: it takes every good history, and of each kind of broken one it says what is wrong with it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fault.breaking import Break, a_call, nowhere
from tests.fault.broken import BREAKS
from tests.fault.checker import check
from tests.fault.good import good
from tests.fault.history import Marked, Rewound

seeds = st.integers(min_value=0, max_value=2**32)


@given(seeds)
def test_a_good_history_is_taken(seed: int) -> None:
    assert check(good(seed)) == []


@pytest.mark.parametrize(("rule", "broken"), BREAKS, ids=[made.__name__ for _, made in BREAKS])
@given(seeds)
@settings(max_examples=25)
def test_a_broken_history_is_refused_and_the_rule_is_named(rule: str, broken: Break, seed: int) -> None:
    verdicts = check(broken(good(seed), Random(seed)))
    assert rule in {verdict.rule for verdict in verdicts}


@given(seeds)
def test_what_is_refused_is_named_by_its_events(seed: int) -> None:
    history, rng = good(seed), Random(seed)
    _, call = a_call(history, rng, "note", "ask")
    event = next(e for e in history.stored[call.session] if e.id == call.id)
    verdicts = check(nowhere(history, call.session, event))
    assert any(verdict.rule == "lost" and verdict.events == (event.offset,) for verdict in verdicts)


def test_good_histories_are_no_idle_ones() -> None:
    histories = [good(seed) for seed in range(50)]
    steps = [step for history in histories for reading in history.readings for step in reading.steps]
    assert sum(isinstance(step, Rewound) for step in steps) > 20
    assert sum(isinstance(step, Marked) for step in steps) > 100
    types = {event.type for history in histories for log in history.stored.values() for event in log}
    assert {"run.taken_over", "handoff.accepted", "input.answered", "control.accepted"} <= types
