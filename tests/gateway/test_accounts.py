"""Who is held to what: time comes in, and nothing is awaited."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.history import Read
from session_fabric.words.errors import LimitExceeded, RateLimited
from session_fabric_gateway import accounts as module
from session_fabric_gateway.accounts import Accounts
from session_fabric_gateway.allowances import read_allowances
from session_fabric_gateway.auth import Grant

ADA, BOB = Grant("acme", "user:ada"), Grant("acme", "user:bob")
BOT = Grant("acme", "agent:writer")
OTHER = Grant("other", "user:ada")


def accounts(*given: str) -> tuple[Accounts, Counter[str]]:
    reached: Counter[str] = Counter()
    return Accounts(read_allowances(None, given), lambda name: reached.update([name])), reached


def spent(meter: Any, of: Any, now: float) -> bool:
    try:
        meter.spend(of, now)
    except RateLimited:
        return False
    return True


def test_connections_of_one_participant_share_what_it_may_and_nobody_elses() -> None:
    ours, reached = accounts("participant.appends=1/2")
    one, two, bob, other = (ours.connection(grant, 0.0) for grant in (ADA, ADA, BOB, OTHER))
    assert [spent(meter, "appends", 0.0) for meter in (one, two, one, bob, other)] == [True, True, False, True, True]
    assert reached == {"participant.appends": 1}
    assert spent(two, "appends", 1.0)


def test_participants_of_one_tenant_share_what_it_may() -> None:
    ours, reached = accounts("tenant.opens=1/2")
    ada, bob, bot, other = (ours.connection(grant, 0.0) for grant in (ADA, BOB, BOT, OTHER))
    assert [spent(meter, "opens", 0.0) for meter in (ada, bob, bot, other)] == [True, True, False, True]
    assert reached == {"tenant.opens": 1}


def test_one_connection_at_its_limit_leaves_another_of_the_same_participant_alone() -> None:
    ours, _ = accounts("connection.operations=1/1")
    one, two = ours.connection(ADA, 0.0), ours.connection(ADA, 0.0)
    assert [spent(meter, "operations", 0.0) for meter in (one, one, two)] == [True, False, True]


def test_a_program_is_held_as_a_program_and_not_by_each_connection() -> None:
    ours, _ = accounts("connection.appends=1/1", "participant.appends=1/1", "program.appends=1/3")
    meter = ours.connection(BOT, 0.0)
    assert [spent(meter, "appends", 0.0) for _ in range(4)] == [True, True, True, False]


def test_a_refusal_says_of_what_by_whom_and_when_to_try_again() -> None:
    ours, _ = accounts("participant.appends=4/1")
    meter = ours.connection(ADA, 0.0)
    meter.spend("appends", 0.0)
    with pytest.raises(RateLimited) as refused:
        meter.spend("appends", 0.0)
    assert refused.value.facts == {"scope": "participant", "of": "appends", "per_s": 4.0, "retry_after_ms": 250}
    assert "user:ada" in refused.value.message
    assert "250 ms" in refused.value.hint


def test_what_is_open_at_a_time_is_counted_and_given_back() -> None:
    ours, reached = accounts("participant.open_connections=2", "participant.subscriptions=1")
    one = ours.connection(ADA, 0.0)
    request = ours.request(ADA, 0.0, writes=False, size=0)
    with pytest.raises(LimitExceeded) as refused:
        ours.connection(ADA, 0.0)
    assert refused.value.facts["limit"] == 2
    assert refused.value.facts["retry_after_ms"] > 0
    request.close()
    two = ours.connection(ADA, 0.0)
    one.subscribe()
    with pytest.raises(LimitExceeded):
        two.subscribe()
    one.close()
    two.subscribe()
    assert reached == {"participant.open_connections": 1, "participant.subscriptions": 1}


def test_a_request_that_is_refused_is_not_under_way() -> None:
    ours, _ = accounts("participant.appends=1/1", "participant.bytes=1/10", "participant.open_connections=1")
    ours.request(ADA, 0.0, writes=True, size=5).close()
    for size in (0, 100):
        with pytest.raises(RateLimited):
            ours.request(ADA, 0.0, writes=True, size=size)
    with pytest.raises(RateLimited):
        ours.request(ADA, 4.0, writes=False, size=100)
    ours.request(ADA, 4.0, writes=False, size=0).close()


def test_what_has_happened_is_owed() -> None:
    ours, reached = accounts("connection.bytes=10/20", "participant.bytes=none", "tenant.bytes=none")
    meter = ours.connection(ADA, 0.0)
    assert [meter.owe("bytes", 0.0, size) for size in (20, 30)] == [0.0, 3.0]
    assert meter.owe("bytes", 3.0, 0) == 0.0
    assert reached == {"connection.bytes": 1}


def test_a_client_is_told_the_tightest_of_its_rates() -> None:
    ours, _ = accounts(
        "participant.appends=7/9", "connection.opens=none", "participant.opens=none", "tenant.opens=none"
    )
    told = ours.connection(ADA, 0.0).told()
    assert told["appends"] == {"per_s": 7.0, "burst": 9.0}
    assert "opens" not in told


def test_an_address_is_held_until_a_token_is_good() -> None:
    ours, reached = accounts("address.requests=1/2")
    for _ in range(50):
        ours.spend_of_address("192.0.2.1", 0.0, "requests")
        ours.give_back("192.0.2.1", 0.0, "requests")
    for _ in range(2):
        ours.spend_of_address("192.0.2.1", 0.0, "requests")
    with pytest.raises(RateLimited):
        ours.spend_of_address("192.0.2.1", 0.0, "requests")
    ours.spend_of_address("192.0.2.2", 0.0, "requests")
    assert reached == {"address.requests": 1}


def test_who_is_quiet_is_forgotten_and_nothing_is_won_by_it() -> None:
    ours, _ = accounts("participant.appends=1/2")
    meter = ours.connection(ADA, 0.0)
    assert [spent(meter, "appends", 0.0) for _ in range(3)] == [True, True, False]
    meter.close()
    ours.sweep(1.9)
    meter = ours.connection(ADA, 1.9)
    assert [spent(meter, "appends", 1.9) for _ in range(2)] == [True, False]
    meter.close()
    ours.sweep(100.0)
    assert len(ours) == 0


def test_addresses_without_end_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 100)
    ours, _ = accounts("address.requests=1/2")
    held = ours.connection(ADA, 0.0)
    for number in range(1000):
        ours.spend_of_address(str(number), float(number), "requests")
    assert len(ours) <= 100
    held.spend("appends", 1000.0)
    held.close()


def test_one_too_many_has_some_looked_at_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 1000)
    ours, _ = accounts("address.requests=1/2")
    for number in range(1000):
        ours.spend_of_address(str(number), 0.0, "requests")
    ours.spend_of_address("another", 100.0, "requests")
    assert len(ours) == 1001 - module.A_SLICE
    for number in range(2000):  # nobody of these is quiet for long enough
        ours.spend_of_address(f"more {number}", 100.0, "requests")
        assert len(ours) <= 1000


def test_every_account_has_its_turn() -> None:
    ours, _ = accounts("address.requests=1/2")
    for number in range(300):
        ours.spend_of_address(str(number), 0.0 if number % 2 else 100.0, "requests")
    for _ in range(0, 300, module.A_SLICE):
        ours.sweep(100.0)
    assert len(ours) == 150


@given(st.lists(st.sampled_from(["connect", "close", "open", "shut"]), max_size=60))
def test_whatever_comes_and_goes_the_counts_end_at_nothing(steps: list[str]) -> None:
    ours, _ = accounts("participant.connections=none")
    meters: list[Any] = []
    for step in steps:
        if step == "connect":
            meters.append(ours.connection(ADA, 0.0))
        elif meters and step == "close":
            meters.pop(0).close()
        elif meters and step == "open":
            meters[-1].subscribe()
        elif meters and step == "shut" and meters[-1]._subscriptions:
            meters[-1].unsubscribe()
    for meter in meters:
        meter.close()
    assert all((one.held, one.subscriptions) == (0, 0) for one in ours._accounts.values())


def test_of_history_large_bodies_count_as_more() -> None:
    ours, reached = accounts("participant.history=1/10")
    meter = ours.connection(ADA, 0.0)
    assert meter.owe_history(0.0, Read(4, 4095)) == 0.0
    meter.check_history(0.0)
    assert meter.owe_history(0.0, Read(1, 20 * 4096)) == pytest.approx(15.0)
    with pytest.raises(RateLimited) as refused:
        meter.check_history(0.0)
    assert refused.value.facts["of"] == "history"
    assert reached["participant.history"] == 2


def test_of_all_that_wait_for_more_history_one_begins_and_the_others_wait_for_what_it_costs() -> None:
    ours, _ = accounts("participant.history=100/6400")
    meter = ours.connection(ADA, 0.0)
    meter.owe_history(0.0, Read(6400, 0))
    with pytest.raises(RateLimited) as refused:
        meter.begin_history(0.0)
    assert refused.value.facts["retry_after_ms"] in (640, 641)
    advance = meter.begin_history(0.64)
    with pytest.raises(RateLimited):
        meter.begin_history(0.65)
    assert meter.owe_history(0.65, Read(256, 0), advance) == pytest.approx(1.91)
    with pytest.raises(RateLimited):
        meter.begin_history(2.56)
    meter.begin_history(3.2)


def test_a_read_that_brings_nothing_costs_nothing_and_of_a_small_burst_begins_with_a_part() -> None:
    ours, _ = accounts("participant.history=1/10")
    meter = ours.connection(ADA, 0.0)
    for _ in range(100):
        meter.owe_history(0.0, Read(0, 0), meter.begin_history(0.0))
    assert meter.owe_history(0.0, Read(9, 0), meter.begin_history(0.0)) == 0.0
    meter.begin_history(0.0)
