"""How long clients are given to go elsewhere."""

from __future__ import annotations

from session_fabric_gateway.draining import TAKEN_OVER_A_SECOND, after_ms, spread_s


def test_few_clients_have_the_time_that_was_set() -> None:
    assert spread_s(10, 5.0, 15.0) == 5.0
    assert spread_s(0, 0.0, 15.0) == 0.0


def test_many_clients_have_as_long_as_another_gateway_takes_to_take_them_over() -> None:
    spread = spread_s(2000, 5.0, 15.0)
    assert 2000 / (after_ms(spread) / 1000) <= TAKEN_OVER_A_SECOND


def test_nobody_is_asked_to_stay_until_what_is_left_is_cut() -> None:
    assert spread_s(100_000, 5.0, 15.0) < 15.0
    # Who has set more than that has said so.
    assert spread_s(100_000, 20.0, 15.0) == 20.0
