"""What an input asks, and under which run it is answered: decided here, without I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from session_fabric import Event
from session_fabric.rules.messages import Message
from session_fabric.words.events import MESSAGE_USER

from session_fabric_cli.demo.answers import Turn

_LONGEST: Final = 100


def question_of(event: Event) -> str | None:
    """Return the text that a user's message says; None for anything else."""
    if event.type != MESSAGE_USER:
        return None
    message = event.body.get("message")
    return text_of(message.get("content")) if isinstance(message, dict) else None


def text_of(content: Any) -> str:
    """Return the text of an AG-UI message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def run_ids(event: Event, attempts: int) -> list[str]:
    """Return the runs under which an input may be answered, first the one of the first attempt.

    They follow from the input, so that whoever gets it again finds out that it was answered. A run that exists
    and never ended was a worker's that died: the next attempt answers under the next id.
    """
    known = event.id if len(event.id) <= _LONGEST else hashlib.sha256(event.id.encode()).hexdigest()
    return [f"answer-{known}", *(f"answer-{known}.{n}" for n in range(2, attempts + 1))]


def turns_before(messages: Iterable[Message], event: Event) -> Sequence[Turn]:
    """Return what was said before an input, oldest first."""
    return [Turn(message.role, text_of(message.content)) for message in messages if message.first < event.offset]
