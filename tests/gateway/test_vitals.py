"""When a connection is pinged, and when it is closed."""

from __future__ import annotations

from session_fabric.presence import GRACE_S
from session_fabric_gateway.codes import NO_HELLO, SILENT, SLOW_CONSUMER, TOKEN_EXPIRED
from session_fabric_gateway.gateway import SWEEP_S
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


def test_who_takes_nothing_and_says_nothing_for_too_long_is_closed() -> None:
    vitals = greeted()
    assert check(vitals, 1.0) == "fine"
    vitals.heard(1.5)
    for now in (2.0, 6.0, 11.4):
        assert check(vitals, now, stalled=True, unread=1000) == "fine"
    assert check(vitals, 11.5, stalled=True, unread=1000) == SLOW_CONSUMER


def test_who_vanished_while_much_was_written_to_it_has_no_longer_than_who_stalls() -> None:
    """The kernel takes megabytes for a browser that is gone, before it stalls."""
    vitals = greeted()
    assert check(vitals, 5.0) == "ping"
    assert check(vitals, 9.5) == "fine"
    assert check(vitals, 9.9, stalled=True, unread=4_000_000) == "fine"
    assert check(vitals, 10.0, stalled=True, unread=4_000_000) == SLOW_CONSUMER


def test_a_ping_that_waited_behind_what_was_unread_has_its_time_from_then_on() -> None:
    vitals = greeted()
    assert check(vitals, 5.0) == "ping"
    for second in range(6, 40):
        assert check(vitals, float(second), stalled=True, unread=10_000 - second) == "fine"
    assert [check(vitals, now) for now in (40.0, 44.9, 45.0)] == ["fine", "fine", SILENT]


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
    """Silence, then the sweeps that notice it (before the ping and after), then the time in which it may come back."""
    settings = Settings(nats="nats://x")
    silence_s = settings.heartbeat_s + 2 * SWEEP_S
    stalled_s = settings.stalled_s + SWEEP_S
    assert max(silence_s, stalled_s) + GRACE_S <= 14
