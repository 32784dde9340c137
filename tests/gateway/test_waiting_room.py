"""How many strangers there may be, and how long each may take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from session_fabric_gateway.strangers import Pace, Progress, Strangers

PACE = Pace(head_s=10, grace_s=10, bytes_per_s=1000)


def test_for_one_too_many_of_an_address_its_oldest_goes() -> None:
    strangers: Strangers[int] = Strangers(2, 10)
    assert [strangers.add(number, "a") for number in (1, 2)] == [None, None]
    assert strangers.add(3, "b") is None
    assert strangers.add(4, "a") == (1, "address_strangers")
    assert 1 not in strangers
    assert len(strangers) == 3


def test_for_one_too_many_in_all_the_oldest_of_all_goes() -> None:
    strangers: Strangers[int] = Strangers(None, 2)
    assert [strangers.add(number, address) for number, address in ((1, "a"), (2, "b"))] == [None, None]
    assert strangers.add(3, "c") == (1, "gateway_strangers")


def test_who_is_known_makes_room() -> None:
    strangers: Strangers[int] = Strangers(1, 1)
    strangers.add(1, "a")
    assert strangers.remove(1) == "a"
    assert strangers.remove(1) == ""
    assert strangers.add(2, "a") is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.sampled_from("abc")), max_size=100))
def test_there_are_never_more_than_there_may_be(steps: list[tuple[bool, int, str]]) -> None:
    strangers: Strangers[int] = Strangers(3, 5)
    there: dict[int, str] = {}
    for comes, number, address in steps:
        if comes:
            goes = strangers.add(number, address)
            there.pop(number, None)
            if goes is not None:
                del there[goes[0]]
            there[number] = address
        else:
            strangers.remove(number)
            there.pop(number, None)
        assert len(strangers) == len(there) <= 5
        assert all(sum(a == one for a in there.values()) <= 3 for one in "abc")


def test_a_head_that_has_begun_must_be_whole_in_time() -> None:
    progress = Progress(0.0)
    progress.heard(5.0)
    progress.heard(14.0)
    assert progress.check_head(14.9, PACE, stranger=False) is None
    assert progress.check_head(15.0, PACE, stranger=False) == "slow_head"


def test_a_stranger_must_ask_for_something_in_time_and_others_need_not() -> None:
    progress = Progress(0.0)
    assert progress.check_head(10.0, PACE, stranger=False) is None
    assert progress.check_head(9.9, PACE, stranger=True) is None
    assert progress.check_head(10.0, PACE, stranger=True) == "slow_head"
    progress.began(10.0)
    progress.heard(11.0)  # of its body
    progress.ended(12.0)
    assert progress.check_head(21.9, PACE, stranger=True) is None


def test_a_body_must_come_at_the_pace_and_has_some_grace() -> None:
    progress = Progress(0.0)
    progress.began(0.0)
    assert progress.check_body(9.9, PACE, 0) is None
    assert progress.check_body(10.0, PACE, 0) == "slow_body"
    assert progress.check_body(14.9, PACE, 5000) is None
    assert progress.check_body(15.0, PACE, 5000) == "slow_body"


def test_an_answer_must_be_taken_at_the_pace() -> None:
    progress = Progress(0.0)
    progress.began(0.0)
    assert progress.check_answer(0.0, PACE, written=9000, waiting=8000) is None
    assert progress.check_answer(9.9, PACE, written=9000, waiting=8000) is None
    assert progress.check_answer(10.0, PACE, written=9000, waiting=8000) == "slow_reader"
    assert progress.check_answer(10.0, PACE, written=9000, waiting=4000) is None
    assert progress.check_answer(14.0, PACE, written=9000, waiting=4000) == "slow_reader"


def test_an_answer_that_goes_on_and_on_is_not_too_slow_while_it_is_taken() -> None:
    progress = Progress(0.0)
    progress.began(0.0)
    for second in range(100):
        assert progress.check_answer(second, PACE, written=second * 2000 + 500, waiting=500) is None
    assert progress.check_answer(100.0, PACE, written=200_000, waiting=0) is None
