"""How long a reader may get nothing: as long as what was done explains, and not half a second more."""

from __future__ import annotations

import pytest

from tests.fault.history import Event, Fault, Got, History, Opened, Reading
from tests.fault.pause_rules import LIMIT_S, unexplained

AT, OVER = 200.0, 202.0


def verdicts(who: str, until: float, *faults: Fault) -> list[str]:
    """Judge a reader who gets something ten times a second but for one pause, from `AT` on."""
    times = [100.0 + n / 10 for n in range(1001)] + [until + n / 10 for n in range(300)]
    steps = [Got(at, Event(f"1_{n:04d}", f"e{n}", "app.note", "user:p1")) for n, at in enumerate(times)]
    reading = Reading(who, "s0", [Opened(99.0, "start"), *steps], upto="1_9999")
    return [str(v) for v in unexplained(History([], [reading], {}, {}, faults, [], [], (100.0, until + 20)))]


# From when on nothing explains it any more: as `recovery.py` says, and why.
BOUNDS = [
    ("f1.1", "kill-leader", "n1", AT + 10),  # an election from when it was killed, and a moment
    ("f1.1", "lost-data", "n1", AT + 10),
    ("f1.1", "stop", "n1", OVER + 2),
    ("f1.1", "rolling", "n1", OVER + 2),
    ("b1.1/s0-0", "partition", "n1", OVER + 10),  # an election from when it came back
    ("b1.1/s0-0", "freeze", "n1", OVER + 10),
    ("b1.1/s0-0", "loss", "n1", OVER + 10),
    ("b1.1/s0-0", "full-disk", "n3", OVER + 10),
    ("b1.1/s0-0", "kill", "g1", OVER + 3),  # dialled again after three seconds at most
    ("b2.1/s0-1", "stop", "g2", OVER + 3),
    ("b2.1/s0-1", "reset", "b2", OVER + 3),
    ("b2.1/s0-1", "refuse", "b2", OVER + 3),
    ("b2.1/s0-1", "half-open", "b2", OVER + 8),  # the dial that has no answer is left after five
    ("b2.1/s0-1", "partition", "g1", OVER + 8),
    ("b2.1/s0-1", "slow-reader", "b2", OVER + 8),
    ("b2.1/s0-1", "freeze", "b2", OVER + 8),
    ("b1.1/s0-0", "latency", "g1", OVER + 1.2),
    ("f1.1", "half-open", "f1", AT + 11),  # two pings without an answer, from when it began, and the next dial
    ("f1.1", "kill", "f1", OVER + 2),
    ("f1.1", "reset", "f1", OVER + 2),
    ("f1.1", "stall", "machine", OVER + 1),
]


@pytest.mark.parametrize(("who", "kind", "target", "bound"), BOUNDS)
def test_a_pause_is_explained_as_long_as_its_fault_takes_to_be_over(
    who: str, kind: str, target: str, bound: float
) -> None:
    fault = Fault(kind, target, AT, OVER)
    assert verdicts(who, bound + LIMIT_S - 0.1, fault) == []
    (verdict,) = verdicts(who, bound + LIMIT_S + 0.5, fault)
    assert verdict.startswith("pause:")
    assert f"{kind} {target}" in verdict


def test_a_stall_as_long_as_an_election_explains_one() -> None:
    stall = Fault("stall", "machine", AT, AT + 5)
    assert verdicts("f1.1", AT + 5 + 10 + LIMIT_S - 0.1, stall) == []
    assert verdicts("f1.1", AT + 5 + 10 + LIMIT_S + 0.5, stall) != []


def test_faults_that_follow_each_other_explain_as_much_as_they_cover() -> None:
    faults = [Fault("reset", "b1", AT, AT), Fault("kill", "g1", AT + 5, AT + 6)]
    # Covered: 200 to 203, and 204.5 (a fault is noted when it has been made) to 209.
    assert verdicts("b1.1/s0-0", AT + 9 + LIMIT_S - 1.5 - 0.1, *faults) == []
    assert verdicts("b1.1/s0-0", AT + 9 + LIMIT_S - 1.5 + 0.5, *faults) != []


@pytest.mark.parametrize(
    ("kind", "target"), [("kill", "w1"), ("partition", "p2"), ("half-open", "b2"), ("kill", "g1"), ("clock", "f1")]
)
def test_what_was_done_to_others_and_a_clock_that_is_wrong_explain_nothing(kind: str, target: str) -> None:
    assert verdicts("f1.1", AT + LIMIT_S + 0.5, Fault(kind, target, AT, OVER)) != []


def test_a_fault_that_was_over_long_ago_explains_nothing() -> None:
    assert verdicts("b1.1/s0-0", AT + LIMIT_S + 0.5, Fault("kill", "n1", AT - 30, AT - 25)) != []
