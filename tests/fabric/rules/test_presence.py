"""What a session hears of devices that are there through several processes."""

from __future__ import annotations

from itertools import permutations

import pytest
from session_fabric.rules.presence import STATUSES, Beside, check_data, check_status, has_left, on_joining
from session_fabric.words.errors import InvalidRequest, TooLarge

OWN = Beside(10, "b", False)
BEFORE, AFTER = Beside(9, "z", False), Beside(11, "a", False)


def test_who_is_alone_is_told_of() -> None:
    assert on_joining(OWN, []) == "say"


def test_who_is_there_already_has_not_joined_again() -> None:
    assert on_joining(OWN, [BEFORE]) == "quiet"
    assert on_joining(OWN, [AFTER, BEFORE]) == "quiet"


def test_of_several_that_see_each_other_exactly_one_speaks() -> None:
    together = [Beside(10, "a", False), Beside(10, "b", False), Beside(11, "c", False)]
    for own, *others in permutations(together):
        assert (on_joining(own, others) == "say") == (own == together[0])


def test_while_one_is_being_removed_nothing_is_said() -> None:
    assert on_joining(OWN, [BEFORE._replace(leaving=True)]) == "wait"
    assert on_joining(OWN, [BEFORE, AFTER._replace(leaving=True)]) == "wait"


def test_a_device_has_left_when_no_process_shows_it() -> None:
    assert has_left([])
    assert has_left([BEFORE._replace(leaving=True)])
    assert not has_left([BEFORE._replace(leaving=True), AFTER])


@pytest.mark.parametrize("status", [*STATUSES, None])
def test_these_are_statuses(status: str | None) -> None:
    assert check_status(status) == status


@pytest.mark.parametrize("status", ["asleep", "", "Idle", 1, True])
def test_nothing_else_is_one(status: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_status(status)
    assert "thinking, tool, waiting, idle" in str(refused.value)


def test_presence_data_has_4_kib_at_most() -> None:
    check_data({"x": "y" * (4096 - len('{"x":""}'))})
    with pytest.raises(TooLarge) as refused:
        check_data({"x": "y" * (4097 - len('{"x":""}'))})
    assert refused.value.facts["limit"] == 4096


def test_presence_data_is_json() -> None:
    with pytest.raises(InvalidRequest):
        check_data({"x": object()})
