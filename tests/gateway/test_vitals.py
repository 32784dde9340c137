"""When a connection is pinged, and when it is closed."""

from __future__ import annotations

from session_fabric.presence import GRACE_S
from session_fabric_gateway.codes import NO_HELLO, SILENT, SLOW_CONSUMER, TOKEN_EXPIRED
from session_fabric_gateway.settings import Settings
from session_fabric_gateway.vitals import Patience, Verdict, Vitals

PATIENCE = Patience(heartbeat_s=10, stalled_s=10, hello_s=5)


def greeted() -> Vitals:
    return Vitals(0.0, PATIENCE, greeted=True)


def check(vitals: Vitals, now: float, *, stalled: bool = False, unread: int = 0, now_ms: int = 0) -> Verdict:
    return vitals.check(now, now_ms, stalled=stalled, unread=unread)


def test_without_hello_it_is_closed() -> None:
    vitals = Vitals(0.0, PATIENCE)
    assert check(vitals, 4.9) == "fine"
    assert check(vitals, 5.0) == NO_HELLO


def test_silence_is_asked_once_and_then_ends_it() -> None:
    vitals = greeted()
    assert [check(vitals, now) for now in (4.9, 5.0, 6.0, 9.9, 10.0)] == ["fine", "ping", "fine", "fine", SILENT]


def test_any_sign_of_life_begins_anew() -> None:
    vitals = greeted()
    assert check(vitals, 5.0) == "ping"
    vitals.heard(6.0)
    assert [check(vitals, now) for now in (10.0, 11.0, 16.0)] == ["fine", "ping", SILENT]


def test_a_late_look_leaves_time_for_the_answer() -> None:
    vitals = greeted()
    assert check(vitals, 30.0) == "ping"
    assert check(vitals, 34.9) == "fine"
    assert check(vitals, 35.0) == SILENT


def test_who_takes_nothing_for_too_long_is_closed() -> None:
    vitals = greeted()
    assert check(vitals, 1.0) == "fine"
    for now in (2.0, 6.0, 10.9):
        assert check(vitals, now, stalled=True, unread=1000) == "fine"
    assert check(vitals, 12.0, stalled=True, unread=1000) == SLOW_CONSUMER


def test_who_takes_little_is_not() -> None:
    vitals = greeted()
    for second in range(1, 60):
        assert check(vitals, float(second), stalled=True, unread=10_000 - second) == "fine"


def test_the_end_of_the_token_closes() -> None:
    vitals = greeted()
    vitals.expires_ms = 1000
    assert check(vitals, 1.0, now_ms=999) == "fine"
    assert check(vitals, 1.0, now_ms=1000) == TOKEN_EXPIRED


def test_a_browser_that_vanishes_has_left_within_fifteen_seconds() -> None:
    """Silence, then the sweep that notices it, then the grace in which it might come back."""
    assert Settings(nats="nats://x").heartbeat_s + 0.5 + GRACE_S <= 15
