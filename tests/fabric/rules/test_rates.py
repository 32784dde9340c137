"""Token buckets: never more than a rate allows, and what is refused is told truly when it will be granted."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric.rules.rates import Bucket, Rate, Refusal, parse_rate, take_all
from session_fabric.words.errors import InvalidRequest

RATES = st.builds(Rate, st.floats(0.1, 1e5), st.floats(1, 1e6))
COSTS = st.floats(0.01, 1e6)
STEPS = st.lists(st.tuples(st.floats(0, 100), COSTS), max_size=60)


def granted(bucket: Bucket, rate: Rate | None, now: float, cost: float = 1.0) -> bool:
    return take_all([(bucket, rate)], now, cost) is None


@given(RATES, STEPS)
@example(Rate(1, 1), [(0, 1.0), (0.5, 1.0), (0.5, 1.0)])
def test_no_stretch_of_time_gets_more_than_its_rate_and_one_burst(rate: Rate, steps: list[tuple[float, float]]) -> None:
    bucket, now = Bucket(), 1000.0
    taken: list[tuple[float, float]] = []
    for pause, cost in steps:
        now += pause
        cost = min(cost, rate.burst)
        if granted(bucket, rate, now, cost):
            taken.append((now, cost))
    for begin in range(len(taken)):
        total = 0.0
        for at, cost in taken[begin:]:
            total += cost
            most = rate.burst + (at - taken[begin][0]) * rate.per_s
            assert total <= most * (1 + 1e-6) + rate.per_s * 1e-5


@given(RATES, STEPS, COSTS)
def test_after_the_wait_that_was_told_it_is_granted_and_not_much_before(
    rate: Rate, steps: list[tuple[float, float]], cost: float
) -> None:
    bucket, now = Bucket(), 1000.0
    for pause, some in steps:
        now += pause
        bucket.take(rate, now, some)
    wait_s = bucket.wait_s(rate, now, cost)
    # Clocks count no finer than this.
    assert bucket.wait_s(rate, now + wait_s * (1 + 1e-9) + 1e-6, cost) == 0
    if wait_s > 0.01:
        assert bucket.wait_s(rate, now + wait_s * 0.99, cost) > 0


@given(RATES, st.floats(0, 1e6))
def test_a_bucket_begins_full_and_nothing_is_ever_more_than_full(rate: Rate, pause: float) -> None:
    bucket = Bucket()
    assert bucket.full(0.0)
    assert granted(bucket, rate, pause, rate.burst)
    assert not bucket.full(pause)
    assert not granted(bucket, rate, pause, 0.5 * rate.burst)


@given(RATES, st.floats(1.1, 100))
def test_what_costs_more_than_a_burst_is_granted_once_and_paid_for_afterwards(rate: Rate, times: float) -> None:
    bucket = Bucket()
    assert granted(bucket, rate, 0.0, rate.burst * times)
    wait_s = bucket.wait_s(rate, 0.0, rate.burst)
    assert wait_s == pytest.approx(rate.burst * times / rate.per_s, rel=1e-6)


def test_of_several_all_are_taken_from_or_none() -> None:
    mine, ours = Bucket(), Bucket()
    slow, fast = Rate(1, 2), Rate(10, 3)
    assert [take_all([(mine, fast), (ours, slow)], 0.0) for _ in range(3)] == [None, None, Refusal(1, 1.0)]
    assert mine.wait_s(fast, 0.0, 1) == 0  # the third try took nothing from it
    assert mine.wait_s(fast, 0.0, 2) > 0


def test_what_is_not_limited_is_always_granted() -> None:
    bucket = Bucket()
    assert all(granted(bucket, None, 0.0, 1e12) for _ in range(100))
    assert bucket.full(0.0)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("200", Rate(200, 400)),
        ("200/1000", Rate(200, 1000)),
        ("0.1", Rate(0.1, 1)),
        ("4M/32m", Rate(4 * 1024**2, 32 * 1024**2)),
        ("1.5k/2K", Rate(1536, 2048)),
        ("none", None),
    ],
)
def test_a_rate_is_read_as_it_is_written(text: str, rate: Rate | None) -> None:
    assert parse_rate(text) == rate
    if rate is not None:
        assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1/0", "5/0.5", "many", "1/", "1e5", "²", "1/2/3", "None ", "inf", "nan"]
)
def test_what_is_no_rate_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_rate(text)
    assert refused.value.hint
