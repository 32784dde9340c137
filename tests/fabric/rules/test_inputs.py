"""What a `message.user` must be."""

from __future__ import annotations

from typing import Any

import pytest
from session_fabric.rules.inputs import check_message, is_message, text_of
from session_fabric.words.errors import InvalidEvent

GOOD: list[tuple[dict[str, Any], str]] = [
    ({"message": {"id": "m1", "role": "user", "content": "Hello"}}, "Hello"),
    ({"message": {"id": "m1", "content": ""}}, ""),
    ({"message": {"id": "m1", "role": "user", "content": []}}, ""),
    (
        {
            "message": {
                "id": "m1",
                "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}],
            }
        },
        "ab",
    ),
]
BAD: list[dict[str, Any]] = [
    {},
    {"message": "Hello"},
    {"message": None},
    {"message": {"role": "user", "content": "Hello"}},
    {"message": {"id": "a b", "content": "Hello"}},
    {"message": {"id": 7, "content": "Hello"}},
    {"message": {"id": "m1"}},
    {"message": {"id": "m1", "content": None}},
    {"message": {"id": "m1", "content": 7}},
    {"message": {"id": "m1", "content": {"text": "Hello"}}},
    {"message": {"id": "m1", "content": ["Hello"]}},
    {"message": {"id": "m1", "content": [{"text": "Hello"}]}},
    {"message": {"id": "m1", "content": [{"type": "text"}]}},
    {"message": {"id": "m1", "role": 7, "content": "Hello"}},
]


@pytest.mark.parametrize(("body", "text"), GOOD)
def test_a_whole_message_is_taken_and_its_text_read(body: dict[str, Any], text: str) -> None:
    check_message(body)
    assert is_message(body)
    assert text_of(body) == text


@pytest.mark.parametrize("body", BAD)
def test_anything_else_is_refused_with_what_it_should_be(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent) as caught:
        check_message(body)
    assert caught.value.hint
    assert not is_message(body)
    assert isinstance(text_of(body), str)
