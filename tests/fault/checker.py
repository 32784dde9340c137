"""Decides whether a history keeps what Session Fabric promises. Pure: a history in, verdicts out; none is good.

Each rule is tested against histories that break it (`test_checker.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.fault import log_rules, pause_rules, presence_rules, run_rules, winner_rules
from tests.fault.history import History, Verdict


def check(history: History) -> list[Verdict]:
    """Return all that is wrong, each with the events that show it."""
    return list(_verdicts(history))


def _verdicts(history: History) -> Iterator[Verdict]:
    for session, stored in history.stored.items():
        yield from log_rules.stored_once(session, stored)
        yield from run_rules.writers(session, stored)
        yield from winner_rules.outcomes(session, stored)
    yield from log_rules.acknowledged(history)
    yield from log_rules.retried(history.calls)
    yield from log_rules.in_turn(history)
    yield from log_rules.one_truth(history)
    for reading in history.readings:
        yield from log_rules.in_order(reading)
        yield from log_rules.complete(reading, history.stored[reading.session])
    yield from run_rules.texts(history)
    yield from run_rules.ends(history)
    yield from winner_rules.contests(history)
    yield from presence_rules.believed(history)
    yield from presence_rules.found_out(history)
    yield from presence_rules.members(history)
    yield from pause_rules.unexplained(history)
