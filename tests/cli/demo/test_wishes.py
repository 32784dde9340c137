"""What the demo agent takes for a wish, and what for a question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric_cli.demo.wishes import Wish, enough, object_of, wish_of


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("Delete the old drafts (it asks you first)", "approve"),
        ("please remove everything", "approve"),
        ("approve", "approve"),
        ("What do you know about this page? (a tool in your browser)", "page"),
        ("how large is my screen?", "page"),
        ("What have I selected?", "selection"),
        ("what did I mark", "selection"),
        ("translate my selection", "selection"),
        ("I want to talk to a person", "person"),
        ("human", "person"),
        ("Operator, please!", "person"),
        ("Think about close codes", "think"),
        ("How do I delete a session?", None),
        ("How does an operator take over from a human?", None),
        ("What is a selected branch?", None),
        ("What is a page of history?", None),
        ("hello", None),
        ("", None),
    ],
)
def test_a_wish_is_told_from_a_question(text: str, wish: Wish | None) -> None:
    assert wish_of(text) == wish


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Delete the old drafts (it asks you first)", "the old drafts"),
        ("please remove everything!", "everything"),
        ("delete", ""),
        ("Think hard about close codes", "close codes"),
    ],
)
def test_what_is_wanted_is_named_in_a_few_words(text: str, what: str) -> None:
    assert object_of(text) == what


@pytest.mark.parametrize(("text", "less"), [("shorter, please", True), ("that will do", True), ("and marks?", False)])
def test_who_wants_less_is_told_from_who_wants_more(text: str, less: bool) -> None:
    assert enough(text) == less


@given(st.text())
def test_whatever_is_typed_is_a_wish_or_none(text: str) -> None:
    wish_of(text)
    assert len(object_of(text)) <= 80
