"""When what was asked is due, and when it is looked at until then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.deadlines import FIRST_LOOK_MS, SELDOM_MS, Wait, decide, first_look_ms, later, limit_ms
from session_fabric.rules.questions import MAX_DEADLINE_MS

ASKED = 1_764_000_000_000


@pytest.mark.parametrize(
    ("type", "body", "limit"),
    [
        ("message.user", {}, 300_000),
        ("message.forwarded", {"deadline_ms": 1}, 300_000),
        ("control.requested", {"deadline_ms": 5000}, 5000),
        ("tool.requested", {"deadline_ms": None}, None),
        ("input.requested", {"deadline_ms": True}, None),
        ("input.requested", {"deadline_ms": "soon"}, None),
        ("handoff.offered", {"deadline_ms": 10**15}, MAX_DEADLINE_MS),
        ("handoff.offered", {"deadline_ms": -1}, None),
        ("pool.rung", {"deadline_ms": 5000}, 5000),
        ("pool.rung", {}, None),
    ],
)
def test_how_long_an_event_may_wait(type: str, body: dict[str, Any], limit: int | None) -> None:
    assert limit_ms(type, body, 300) == limit


@given(st.integers(1, MAX_DEADLINE_MS))
def test_it_is_looked_at_ever_more_seldom_and_exactly_when_it_is_due(limit: int) -> None:
    now, looks = ASKED, 0
    while isinstance(verdict := decide(ASKED, limit, now), Wait):
        assert 0 < verdict.delay_s <= SELDOM_MS / 1000
        now += round(verdict.delay_s * 1000)
        looks += 1
    assert verdict == "due"
    assert now == ASKED + limit
    assert looks <= 10 + limit / SELDOM_MS


@pytest.mark.parametrize("action", ["cancel", "interrupt", "redirect"])
def test_a_stop_is_looked_at_again_while_it_may_be_answered(action: str) -> None:
    """Within its five seconds, and more than once: its run may be orphaned meanwhile."""
    first, now, looks = first_look_ms("control.requested", {"action": action}), ASKED, []
    while isinstance(verdict := decide(ASKED, 5000, now, first), Wait):
        now += round(verdict.delay_s * 1000)
        looks.append(now - ASKED)
    assert looks == [1000, 2000, 4000, 5000]
    assert first_look_ms("control.requested", {"action": "steer"}) == FIRST_LOOK_MS


def test_what_waits_for_nothing_is_done_and_what_has_to_wait_is_looked_at_later() -> None:
    assert decide(ASKED, None, ASKED) == "done"
    assert decide(ASKED, 1000, ASKED + 999) == Wait(0.001)
    assert decide(ASKED, 10**6, ASKED) == later(ASKED, ASKED) == Wait(FIRST_LOOK_MS / 1000)
    assert later(ASKED, ASKED + 10**9) == Wait(SELDOM_MS / 1000)
