from __future__ import annotations

from session_fabric_cli.dev.restarts import LONGEST_DELAY_S, STEADY_S, Restarts


def test_deaths_in_quick_succession_are_waited_out_longer_and_longer() -> None:
    restarts = Restarts()
    assert [restarts.died(0.0) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert [restarts.died(0.0) for _ in range(100)][-1] == LONGEST_DELAY_S


def test_a_death_after_a_healthy_life_is_the_first_again() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.died(0.0)
    assert restarts.died(STEADY_S) == 0.1
