"""Who is woken when durable streams grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules import wakes
from session_fabric.rules.wakes import Link, Wake
from session_fabric.words.positions import ZERO


def _wake(**more: object) -> Wake:
    return Wake(**{"tenant": "t", "id": "s", "maker": "agent:a", "type": "pull-wake", "pattern": "a/*"} | more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("events/*", "events/a", True),
        ("events/*", "events/a/b", False),
        ("events/*", "events", False),
        ("events/**", "events/a/b", True),
        ("**/end", "end", True),
        ("**/end", "a/b/end", True),
        ("a.b/*", "axb/c", False),
        ("a/*-x/c", "a/b-x/c", True),
    ],
)
def test_a_star_is_a_segment_and_two_are_any_number(pattern: str, path: str, fits: bool) -> None:
    assert _wake(pattern=pattern).matches(path) is fits


def test_a_stream_that_is_named_and_matched_stays_when_its_name_is_taken_back() -> None:
    wake = wakes.linked(_wake(), "a/1", str(ZERO), named=True)
    assert wakes.unnamed(wake, "a/1").links["a/1"] == Link(named=False, matched=True)
    other = wakes.linked(_wake(), "b/1", str(ZERO), named=True)
    assert wakes.unnamed(other, "b/1").links == {}


def test_a_lease_that_has_ended_frees_the_work() -> None:
    wake = wakes.claimed(wakes.woken(_wake(), "w1", {}, 1000), "worker", 1000)
    assert wakes.freed(wake, 1000 + wake.lease_ttl_ms - 1).state == "held"
    free = wakes.freed(wake, 1000 + wake.lease_ttl_ms)
    assert (free.state, free.holder, free.wake_id) == ("idle", None, None)


def test_a_webhook_that_fails_is_called_again_later_and_later_up_to_a_minute() -> None:
    wake, pauses = _wake(type="webhook"), []
    for _ in range(12):
        wake = wakes.failed(wake, 0, 0.5)
        pauses.append(wake.next_ms)
    assert pauses[:3] == [1000, 2000, 4000]
    assert pauses[-1] == 60_000


@given(st.lists(st.tuples(st.sampled_from(["a/1", "a/2", "a/3"]), st.integers(0, 99)), max_size=30))
def test_what_was_worked_off_never_becomes_less(acks: list[tuple[str, int]]) -> None:
    wake = wakes.linked(wakes.linked(_wake(), "a/1", str(ZERO)), "a/2", str(ZERO))
    for path, number in acks:
        before = dict(wake.links)
        wake = wakes.acked(wake, [(path, f"{0:016d}_{number:016d}")])
        assert wake.links.keys() == before.keys()
        assert all(wake.links[p].acked >= before[p].acked for p in before)
