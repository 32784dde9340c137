"""What a user says beside text, as each framework is told it. No I/O."""

from __future__ import annotations

from typing import Any

from session_fabric.frameworks.conversation import Media, parts_of, text_of
from session_fabric.frameworks.langgraph import as_langchain
from session_fabric.frameworks.openai_agents import as_input

PARTS: list[Any] = [
    {"type": "text", "text": "Look:"},
    {"type": "image", "source": {"type": "url", "value": "https://example.com/a.png"}},
    {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
    {"type": "document", "source": {"type": "data", "value": "aGk=", "mimeType": "application/pdf"}},
    {"type": "binary", "mimeType": "image/gif", "data": "aGk="},
    {"type": "image", "source": {"type": "file", "value": "file-1"}},
    {"type": "of another vocabulary"},
    7,
]


def test_parts_are_text_and_media_and_what_is_neither_is_left_out() -> None:
    assert list(parts_of(PARTS)) == [
        "Look:",
        Media("image", None, "https://example.com/a.png", None),
        Media("image", "image/png", None, "aGk="),
        Media("file", "application/pdf", None, "aGk="),
        Media("image", "image/gif", None, "aGk="),
    ]
    assert list(parts_of("text")) == ["text"]
    assert list(parts_of(None)) == []
    assert text_of(PARTS) == "Look:"


def test_langchain_is_told_standard_blocks() -> None:
    (message,) = as_langchain([{"id": "m1", "role": "user", "content": PARTS}])
    assert message.content_blocks == [
        {"type": "text", "text": "Look:"},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
        {"type": "file", "base64": "aGk=", "mime_type": "application/pdf"},
        {"type": "image", "base64": "aGk=", "mime_type": "image/gif"},
    ]


def test_openai_is_told_items_of_the_responses_api() -> None:
    (item,) = as_input([{"id": "m1", "role": "user", "content": PARTS}])
    assert item["content"] == [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk="},
        {"type": "input_image", "image_url": "data:image/gif;base64,aGk="},
    ]


def test_arguments_that_are_no_object_are_told_as_they_are() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "not json"}}
    (message,) = as_langchain([{"id": "m1", "role": "assistant", "content": "", "toolCalls": [call]}])
    assert message.tool_calls[0]["args"] == {"input": "not json"}  # type: ignore[attr-defined]
