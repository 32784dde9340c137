"""What may be said of retention, and when a session is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.retention import (
    FIELDS,
    NOTHING,
    SELDOM_MS,
    SIZE_LOOK_MS,
    Facts,
    Retention,
    changed,
    delete_at_ms,
    effective,
    next_look_ms,
)
from session_fabric.words.errors import InvalidRequest

DAY = 86_400
limits = st.none() | st.integers(60, 10 * DAY)
retentions = st.builds(
    Retention,
    max_age_s=limits,
    max_events=st.none() | st.integers(1, 10_000),
    max_bytes=st.none() | st.integers(1, 10**9),
    max_idle_s=limits,
    closed_s=st.none() | st.integers(0, DAY),
)
times = st.integers(0, 10**12)


def test_what_is_said_of_a_session_goes_before_what_is_said_of_its_tenant() -> None:
    tenant, session = {"max_age_s": 30 * DAY, "max_events": 100}, {"max_age_s": 60, "max_events": None}
    assert effective(tenant, session) == Retention(max_age_s=60)
    assert effective(tenant, {}) == Retention(max_age_s=30 * DAY, max_events=100)
    assert effective({}, {}) == NOTHING
    assert not NOTHING.says_anything


def test_inherit_takes_back_what_was_said() -> None:
    said = changed({}, {"max_age_s": 60, "max_idle_s": None})
    assert said == {"max_age_s": 60, "max_idle_s": None}
    assert changed(said, {"max_age_s": "inherit", "max_idle_s": "inherit"}) == {}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"max_age_s": 59}, "max_age_s is 59"),
        ({"max_age_s": "30d"}, "max_age_s is '30d'"),
        ({"max_age_s": True}, "max_age_s is True"),
        ({"max_events": 0}, "max_events is 0"),
        ({"max_bytes": -1}, "max_bytes is -1"),
        ({"closed_s": -1}, "closed_s is -1"),
        ({"max_idle_s": 10**10}, "max_idle_s is 10000000000"),
        ({"max_idle": 60}, "no field 'max_idle'"),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, object], names: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        changed({}, changes)
    assert names in refused.value.message
    assert refused.value.hint


@given(retentions, st.sampled_from(["open", "closed"]), times, st.none() | times, st.integers(0, 100), times)
def test_nothing_is_due_before_the_next_look(
    retention: Retention, state: str, newest: int, oldest: int | None, quiet: int, now: int
) -> None:
    facts = Facts(newest, oldest, quiet)
    look = next_look_ms(retention, state, facts, now)  # type: ignore[arg-type]
    delete_at = delete_at_ms(retention, state, newest)  # type: ignore[arg-type]
    if look is None:
        assert not any(getattr(retention, field) for field in FIELDS if field != "closed_s")
        return
    assert look > now
    if delete_at is not None:
        assert look <= max(delete_at, now + 1000)
    if retention.max_age_s is not None:
        assert look <= max((newest if oldest is None else oldest) + retention.max_age_s * 1000, now + 1000)
    if retention.sizes:
        assert look <= now + SELDOM_MS


def test_a_session_in_which_nothing_happens_is_looked_at_ever_more_seldom() -> None:
    sizes = Retention(max_events=10)
    looks = [next_look_ms(sizes, "open", Facts(0, None, quiet), 0) for quiet in range(30)]
    assert looks[0] == SIZE_LOOK_MS
    assert looks == sorted(looks, key=lambda look: look or 0)
    assert looks[-1] == SELDOM_MS


def test_an_open_session_is_not_deleted_for_what_is_said_of_closed_ones() -> None:
    retention = Retention(closed_s=0)
    assert delete_at_ms(retention, "open", 1000) is None
    assert next_look_ms(retention, "open", Facts(1000), 2000) is None
    assert delete_at_ms(retention, "closed", 1000) == 1000
