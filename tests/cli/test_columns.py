"""What a narrow terminal shows of a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric_cli.columns import Column, fitting, widths
from session_fabric_cli.printing import counted, span

NAMES = Column("name", "NAME", [24, 1], whole=True)
TEXT = Column("text", "TEXT", [24, 0])
EMPTY = Column("empty", "NOTHING SAID", [0, 0])
SPARE = Column("spare", "SPARE", [1, 1])


def keys(width: int | None) -> list[str]:
    return [one.key for one in fitting([NAMES, TEXT, EMPTY, SPARE], ["spare"], width)]


def test_where_there_is_room_all_is_shown() -> None:
    assert keys(None) == keys(200) == ["name", "text", "empty", "spare"]


def test_what_is_empty_goes_first_then_what_can_be_spared() -> None:
    assert keys(45) == ["name", "text", "spare"]
    assert keys(38) == ["name", "text"]
    assert keys(10) == ["name", "text"]


def test_names_stay_whole_and_texts_are_folded() -> None:
    assert widths([NAMES, TEXT], 40) == [24, 14]
    assert widths([NAMES, TEXT], 38) == [24, 12]
    assert widths([NAMES, TEXT], None) == [24, 24]


COLUMNS = st.lists(
    st.builds(Column, st.text(max_size=3), st.just("HEADING"), st.lists(st.integers(0, 60), max_size=3)),
    min_size=1,
    max_size=8,
)


@given(COLUMNS, st.integers(20, 200))
def test_what_is_shown_is_never_wider_than_the_terminal(columns: list[Column], width: int) -> None:
    shown = widths(columns, width)
    assert sum(shown) + 2 * (len(columns) - 1) <= max(width, 3 * len(columns) - 2)
    assert all(1 <= wide <= one.widest for wide, one in zip(shown, columns, strict=True))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.3, "300ms"), (0.9996, "1s"), (59.7, "1m"), (3599.9, "1h"), (3600, "1h"), (172_799, "2d"), (600, "10m")],
)
def test_a_length_of_time_is_said_in_the_unit_that_it_comes_to(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_one_is_not_said_as_many() -> None:
    assert [counted(n, "copy", "copies") for n in (0, 1, 2)] == ["0 copies", "1 copy", "2 copies"]
    assert counted(1200, "event") == "1,200 events"
