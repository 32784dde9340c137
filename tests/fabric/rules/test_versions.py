"""Which versions work together."""

from __future__ import annotations

import pytest
from session_fabric.rules.versions import FIRST, FORMAT, Mark, newest_mark, older, readable, skew


def test_a_mark_says_what_was_spelled() -> None:
    mark = Mark(7, 5, "3.1.0")
    assert newest_mark([{"session-fabric": "log", **mark.spelled()}]) == mark


def test_what_has_no_mark_is_of_the_first_format() -> None:
    assert newest_mark([]) == newest_mark([{"session-fabric": "log"}]) == FIRST
    assert readable(FIRST)


def test_of_several_marks_the_newest_counts() -> None:
    assert newest_mark([{}, Mark(3, 2, "0.3.0").spelled(), Mark(1, 1, "0.1.0").spelled()]).format == 3


def test_a_mark_that_cannot_be_read_is_none() -> None:
    assert newest_mark([{"session-fabric-format": "x"}]) == FIRST
    # One that says no oldest reader needs readers of its own format.
    assert newest_mark([{"session-fabric-format": "9"}]).min_reader == 9


@pytest.mark.parametrize(("reader", "may"), [(FORMAT, True), (FORMAT + 1, False)])
def test_whether_a_format_can_be_used_is_for_its_oldest_reader_to_say(reader: int, may: bool) -> None:
    assert readable(Mark(FORMAT + 1, reader)) is may


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("0.1.0", "0.1.7", "same"),
        ("0.1.0", "0.2.0", "beside"),
        ("0.3.0", "0.2.9", "beside"),
        ("0.1.0", "0.3.0", "apart"),
        ("1.0.0", "0.9.0", "apart"),
        ("0.1.0", "", "unknown"),
        ("nonsense", "0.1.0", "unknown"),
    ],
)
def test_versions_of_one_minor_apart_are_beside_each_other(one: str, other: str, expected: str) -> None:
    assert skew(one, other) == skew(other, one) == expected


def test_versions_are_compared_as_numbers() -> None:
    assert older("0.9.0", "0.10.0")
    assert not older("1.0.0", "1.0.0")
    assert not older("0.10.0", "0.9.9")
