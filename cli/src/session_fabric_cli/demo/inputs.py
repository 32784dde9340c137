"""What was said before an input: decided here, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from session_fabric import Event
from session_fabric.rules.messages import Message

from session_fabric_cli.demo.answers import Turn


def text_of(content: Any) -> str:
    """Return the text of an AG-UI message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def turns_before(messages: Iterable[Message], event: Event) -> Sequence[Turn]:
    """Return what was said before an input, oldest first."""
    return [Turn(message.role, text_of(message.content)) for message in messages if message.first < event.offset]
