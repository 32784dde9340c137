"""Schedules of faults: the same for a seed every time, and all kinds among them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fault.history import Fault
from tests.fault.recovery import explains_until, found_until
from tests.fault.schedule import BROWSERS, HOSTS, LANES, NODES, READERS, schedule

seeds = st.integers(min_value=0, max_value=2**32)


@given(seeds)
def test_a_seed_makes_the_same_faults_every_time(seed: int) -> None:
    assert schedule(seed) == schedule(seed)


@given(seeds)
def test_brokers_are_harmed_one_at_a_time_and_every_host_is_known(seed: int) -> None:
    lanes = schedule(seed)
    assert all(step.target in HOSTS for steps in lanes.values() for step in steps)
    assert {lane for lane, steps in lanes.items() if any(step.target in NODES for step in steps)} == {"brokers"}
    assert tuple(lanes) == LANES


@given(seeds)
def test_each_fault_says_until_when_it_explains_a_pause(seed: int) -> None:
    for step in (step for steps in schedule(seed).values() for step in steps):
        fault = Fault(step.kind, step.target, 100.0, 100.0 + step.for_s)
        assert found_until(fault) >= fault.begun
        for reader in (*BROWSERS, *READERS):
            until = explains_until(fault, reader)
            assert until is None or fault.begun <= until <= fault.over + 12.0


def test_every_kind_of_fault_is_made_by_some_seed() -> None:
    kinds = {step.kind for seed in range(20) for steps in schedule(seed).values() for step in steps[:8]}
    assert kinds >= {"kill", "kill-leader", "freeze", "partition", "one-way", "loss", "latency", "half-open", "reset"}
    assert kinds >= {"full-disk", "clock", "slow-reader", "stop", "rolling", "lost-data", "refuse"}
