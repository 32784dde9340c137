from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric_cli.demo import answers
from session_fabric_cli.demo.answers import Turn, plan, spoken
from session_fabric_cli.demo.search import Search
from session_fabric_cli.demo.sections import Section, find_sections

QUESTION = "How does a client resume after a lost connection?"


@pytest.fixture(scope="module")
def search() -> Iterator[Search]:
    found = Search(find_sections())
    yield found
    found.close()


def ask(search: Search, question: str, before: list[Turn] | None = None) -> str:
    chosen = plan(question, before or [])
    assert chosen.kind == "search"
    hits = search.find(chosen.words, without=chosen.without)
    return answers.answer(search.weigh(chosen.words), hits, more=bool(chosen.without))


@pytest.mark.parametrize("text", ["hello", "Hi!", "hey there", "good morning", "What can you do?", "  ", "help", "?"])
def test_a_greeting_is_greeted(text: str) -> None:
    assert plan(text, []).kind == "welcome"


@pytest.mark.parametrize("text", ["thanks", "Thank you!", "ok", "great, thanks"])
def test_thanks_are_taken(text: str) -> None:
    assert plan(text, [Turn("user", QUESTION)]).kind == "thanks"


def test_a_greeting_with_a_question_is_a_question() -> None:
    assert plan("Hi, what does close code 4408 mean?", []).words[-3:] == ("code", "4408", "mean")


def test_an_answer_quotes_what_was_found_and_names_its_source(search: Search) -> None:
    text = ask(search, "What does close code 4408 mean?")
    assert "| 4408 | slow consumer" in text
    assert "](docs/protocol.md#7-errors-and-close-codes)" in text


def test_every_suggested_question_is_answered(search: Search) -> None:
    for line in answers.WELCOME.splitlines():
        if line.startswith("- "):
            assert "Sources:" in ask(search, line[2:])


def test_an_unknown_question_is_answered_with_not_knowing(search: Search) -> None:
    text = ask(search, "What is the capital of France?")
    assert text.startswith("I found nothing about “capital”, “france”")
    assert "Sources:" not in text


def test_a_follow_up_stands_on_the_question_before_it() -> None:
    before = [Turn("user", QUESTION), Turn("assistant", "…")]
    assert plan("And over SSE?", before).words == ("sse", "client", "resume", "lost", "connection")
    assert plan("why?", before).words == ("client", "resume", "lost", "connection")


def test_more_leaves_out_what_was_shown(search: Search) -> None:
    first = ask(search, QUESTION)
    chosen = plan("tell me more", [Turn("user", QUESTION), Turn("assistant", first)])
    assert chosen.words == ("client", "resume", "lost", "connection")
    assert "docs/protocol.md#7-errors-and-close-codes" in chosen.without
    second = ask(search, "more", [Turn("user", QUESTION), Turn("assistant", first)])
    assert second != first


def test_rows_of_a_table_are_quoted_with_their_heading_row() -> None:
    table = "Words first.\n\n| code | meaning |\n|---|---|\n| 1 | one |\n| 2 | two |"
    section = Section("docs/a.md", "A", "B", "b", table)
    assert answers.excerpt(section, {"two": 1.0}, 900) == "Words first.\n\n| code | meaning |\n|---|---|\n| 2 | two |"


@given(st.text())
def test_a_text_is_spoken_whole(text: str) -> None:
    assert "".join(spoken(text)) == text


@given(st.text(), st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text())))
def test_anything_that_is_said_has_a_plan(text: str, before: list[tuple[str, str]]) -> None:
    assert plan(text, [Turn(*turn) for turn in before]).kind in ("welcome", "thanks", "search")
