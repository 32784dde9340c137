"""An offset means the same whatever segments were added, and another session's is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.segments import Leg, Segment, fork, next_segment_id, plan
from session_fabric.words.errors import OffsetForeign, OffsetGone
from session_fabric.words.positions import Offset

SOURCE = Segment(10, "SESSIONS-00", "a", "default", "chat", after=0, upto=50)
MOVED = Segment(20, "SESSIONS-01", "a", "default", "chat", after=7, upto=7)
OWN = Segment(30, "SESSIONS-00", "a", "default", "branch", after=100)
ALL = [SOURCE, MOVED, OWN]


def test_from_the_start_every_stretch_that_holds_something_is_read_in_order() -> None:
    assert plan(ALL, "start") == [Leg(SOURCE, 0, 50), Leg(OWN, 100, None)]


def test_reading_goes_on_behind_an_offset() -> None:
    assert plan(ALL, Offset(10, 42)) == [Leg(SOURCE, 42, 50), Leg(OWN, 100, None)]
    assert plan(ALL, Offset(30, 142)) == [Leg(OWN, 142, None)]


def test_the_end_of_a_segment_is_an_offset_of_it() -> None:
    assert plan(ALL, Offset(10, 50)) == [Leg(OWN, 100, None)]
    assert plan(ALL, Offset(20, 7)) == [Leg(OWN, 100, None)]


def test_an_offset_before_anything_was_in_a_segment_means_its_beginning() -> None:
    assert plan(ALL, Offset(30, 0)) == [Leg(OWN, 100, None)]
    assert plan(ALL, Offset(20, 0)) == [Leg(OWN, 100, None)]
    assert plan(ALL, Offset(30, 100), head=0) == [Leg(OWN, 100, None)]


@pytest.mark.parametrize("offset", [Offset(11, 1), Offset(31, 101), Offset(0, 0)])
def test_an_offset_of_a_segment_that_is_not_listed_is_refused(offset: Offset) -> None:
    with pytest.raises(OffsetForeign, match=f"{offset} is not of this session") as caught:
        plan(ALL, offset)
    assert caught.value.facts == {"offset": str(offset)}


def test_an_offset_beyond_the_end_of_its_segment_is_refused() -> None:
    with pytest.raises(OffsetForeign, match="beyond 50"):
        plan(ALL, Offset(10, 51))
    with pytest.raises(OffsetForeign, match="beyond 120"):
        plan(ALL, Offset(30, 121), head=120)
    assert plan(ALL, Offset(30, 120), head=120) == [Leg(OWN, 120, None)]


def test_an_offset_below_the_floor_is_gone_and_one_at_it_is_not() -> None:
    floor = Offset(30, 110)
    for gone in (Offset(30, 109), Offset(10, 50)):
        with pytest.raises(OffsetGone, match="retention removed") as caught:
            plan(ALL, gone, floor)
        assert caught.value.facts["resync"] == "start"

    assert plan(ALL, Offset(30, 110), floor) == [Leg(OWN, 110, None)]
    assert plan(ALL, "start", floor) == [Leg(OWN, 110, None)]
    assert plan(ALL, "start", Offset(10, 50)) == [Leg(OWN, 100, None)]


def test_a_fork_lists_its_source_up_to_the_offset() -> None:
    at = fork(ALL, Offset(30, 142))
    assert [(s.id, s.after, s.upto) for s in at] == [(10, 0, 50), (20, 7, 7), (30, 100, 142)]
    assert [(s.id, s.upto) for s in fork(ALL, Offset(10, 3))] == [(10, 3)]
    assert fork([OWN], Offset(30, 0))[0].upto == 100

    with pytest.raises(OffsetForeign):
        fork(ALL, Offset(10, 51))


def test_an_offset_above_a_fork_is_foreign_to_it() -> None:
    branch = [*fork(ALL, Offset(10, 3)), Segment(40, "SESSIONS-02", "a", "default", "other")]

    assert plan(branch, Offset(10, 3)) == [Leg(branch[1], 0, None)]
    with pytest.raises(OffsetForeign):
        plan(branch, Offset(10, 4))


@given(st.integers(0, 10**16 - 2), st.integers(0, 10**16 - 2))
def test_segments_rise_whatever_the_clock_says(now_us: int, last: int) -> None:
    made = next_segment_id(now_us, last)

    assert made > last
    assert made >= now_us
    assert made in (now_us, last + 1)


@given(st.integers(0, 50), st.integers(0, 50))
def test_what_is_read_before_and_after_an_offset_is_everything(cut: int, again: int) -> None:
    def read(legs: list[Leg]) -> list[tuple[int, int]]:
        return [(leg.segment.id, n) for leg in legs for n in range(leg.after + 1, (leg.upto or 130) + 1)]

    everything = read(plan(ALL, "start"))
    before = read(plan(fork(ALL, Offset(10, cut)), "start"))

    assert before + read(plan(ALL, Offset(10, cut))) == everything
    assert [o for o in everything if o > (30, 100 + again)] == read(plan(ALL, Offset(30, 100 + again)))
