from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric_cli.demo.search import Search, words_of
from session_fabric_cli.demo.sections import Section


def section(heading: str, text: str) -> Section:
    return Section("docs/a.md", "A", heading, heading.lower(), text)


SECTIONS = [
    section("Resuming", "A client that lost its connection opens again after the last mark."),
    section("Errors", "Each error has a code. A connection may close with a code. The client resumes."),
    section("Names", "A session's name has letters and digits. offset_gone is an error."),
]


@pytest.fixture
def search() -> Iterator[Search]:
    found = Search(SECTIONS)
    yield found
    found.close()


def test_the_section_that_holds_most_of_the_question_comes_first(search: Search) -> None:
    assert search.find(words_of("How does a client resume after a lost connection?"))[0].section.heading == "Resuming"


def test_other_forms_of_a_word_are_found(search: Search) -> None:
    assert {h.section.heading for h in search.find(["resumed"])} == {"Resuming", "Errors"}


def test_names_with_underscores_are_found_whole(search: Search) -> None:
    assert [h.section.heading for h in search.find(words_of("offset_gone"))] == ["Names"]


def test_sections_that_were_shown_can_be_left_out(search: Search) -> None:
    hits = search.find(["client"], without=frozenset({SECTIONS[0].link}))
    assert [h.section.heading for h in hits] == ["Errors"]


def test_a_question_of_unknown_words_finds_nothing(search: Search) -> None:
    assert search.find(words_of("What is the capital of France?")) == []
    assert search.find([]) == []


@given(st.text())
def test_whatever_is_typed_can_be_searched_for(text: str) -> None:
    found = Search(SECTIONS)
    try:
        assert all(0 < hit.coverage <= 1 for hit in found.find(words_of(text)))
    finally:
        found.close()
