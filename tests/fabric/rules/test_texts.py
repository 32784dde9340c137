"""A text comes out right however its pieces arrive."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.texts import MAX_KEPT, Text, after_utf16
from session_fabric.words.events import utf16_length
from session_fabric.words.positions import Offset

texts = st.text(alphabet=st.sampled_from("ab é日👋"), max_size=30)


def pieces_of(text: str, cuts: list[int]) -> list[tuple[int, str]]:
    edges = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    return [(utf16_length(text[:a]), text[a:b]) for a, b in pairwise(edges)]


@given(texts, st.lists(st.integers(0, 30), max_size=6), st.lists(st.integers(0, 30), max_size=6), st.data())
def test_pieces_in_any_order_with_overlaps_and_repeats_make_the_text(
    text: str, cuts: list[int], others: list[int], data: st.DataObject
) -> None:
    pieces = pieces_of(text, cuts) + pieces_of(text, others) + pieces_of(text, cuts)
    grown = Text()
    for at, piece in data.draw(st.permutations(pieces)):
        grown.put(at, piece)

    assert grown.value == text
    assert grown.length == utf16_length(text)


def test_what_is_beyond_a_hole_waits_until_the_hole_is_filled() -> None:
    text = Text()
    text.put(0, "Hel")
    text.put(5, " Ada")
    text.put(12, "?")
    assert text.value == "Hel"

    text.put(3, "lo")
    assert text.value == "Hello Ada"


def test_a_snapshot_covers_what_it_knows_more_of() -> None:
    text = Text()
    text.put(0, "Hel")
    text.put(5, " Ada")
    text.cover("H")
    assert text.value == "Hel"
    text.cover("Hello")
    assert text.value == "Hello Ada"


def test_a_finished_text_changes_no_more() -> None:
    text = Text()
    text.put_loose(Offset(1, 1), "loose")
    text.put(9, "kept")
    text.finish("Hello")
    text.put(5, "!")
    text.put_loose(Offset(1, 2), "!")
    text.cover("Hello, Ada")

    assert text.value == "Hello"
    text.finish("Hello again")
    assert text.value == "Hello again"


def test_pieces_without_a_position_stand_in_the_order_of_the_log() -> None:
    text = Text()
    for sequence, piece in [(2, "two"), (1, "one "), (2, "two")]:
        text.put_loose(Offset(1, sequence), piece)

    assert text.value == "one two"


def test_the_longest_of_pieces_kept_back_at_one_position_stays() -> None:
    text = Text()
    for piece in ["b", "bcd", "bc"]:
        text.put(1, piece)
    text.put(0, "a")

    assert text.value == "abcd"


def test_pieces_kept_back_are_bounded_and_a_snapshot_makes_up_for_the_rest() -> None:
    text = Text()
    for at in range(1, MAX_KEPT + 100):
        text.put(at, "b")
    text.put(0, "a")
    assert text.length == MAX_KEPT + 1

    text.cover("a" + "b" * (MAX_KEPT + 99))
    assert text.length == MAX_KEPT + 100


def test_cutting_counts_code_units() -> None:
    assert [after_utf16("a👋b", n) for n in (-1, 0, 1, 3, 4, 5)] == ["a👋b", "a👋b", "👋b", "b", "", ""]
    assert after_utf16("abc", 2) == "c"
