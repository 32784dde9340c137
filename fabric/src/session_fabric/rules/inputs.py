"""What a participant's event must be, so that whoever works on it can rely on its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from session_fabric.words.errors import InvalidEvent, InvalidName
from session_fabric.words.events import BRANCH_SELECTED, MESSAGE_REGENERATE, MESSAGE_USER
from session_fabric.words.names import check_id, is_id

_EXAMPLE = 'For example {"type":"message.user","message":{"id":"m1","role":"user","content":"Hello"}}.'


def check_input(type: str, body: Mapping[str, Any]) -> None:
    """Raise `InvalidEvent` unless an event has what its type needs; types that are not checked pass."""
    if type == MESSAGE_USER:
        check_message(body)
        parent = body.get("parent")
        if parent is not None and not _is_id(parent):
            raise InvalidEvent(
                f"The `parent` is {parent!r:.60}.",
                hint="Use the id of the message that it follows, null at the beginning, or leave it out.",
            )
    elif type in (MESSAGE_REGENERATE, BRANCH_SELECTED) and not _is_id(body.get("message")):
        raise InvalidEvent(
            f"{type} names the message {body.get('message')!r:.60}.", hint='Use a message\'s id: {"message":"m1"}.'
        )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_id(value)


def check_message(body: Mapping[str, Any]) -> None:
    """Raise `InvalidEvent` unless `message` is an AG-UI message: an id, a role, content of text or of parts."""
    message = body.get("message")
    if not isinstance(message, dict):
        raise InvalidEvent("A message.user needs a `message`, a JSON object.", hint=_EXAMPLE)
    try:
        check_id(message.get("id"), "message")
    except InvalidName as error:
        raise InvalidEvent(f"The message's id is of a wrong form: {error.message}", hint=error.hint) from error
    if not isinstance(message.get("role", "user"), str):
        raise InvalidEvent(f"The message's role is {message['role']!r:.60}.", hint=_EXAMPLE)
    content = message.get("content")
    if isinstance(content, str):
        return
    parts_are_whole = isinstance(content, list) and all(
        isinstance(part, dict)
        and isinstance(part.get("type"), str)
        and (part["type"] != "text" or isinstance(part.get("text"), str))
        for part in content
    )
    if not parts_are_whole:
        raise InvalidEvent(
            "The message's content is neither text nor a list of AG-UI's parts.",
            hint='Use "content":"Hello" or "content":[{"type":"text","text":"Hello"}].',
        )


def is_message(body: Mapping[str, Any]) -> bool:
    """Say whether a stored `message.user` has the shape that `check_message` asks for."""
    try:
        check_message(body)
    except InvalidEvent:
        return False
    return True


def text_of(body: Mapping[str, Any]) -> str:
    """Return the text of a `message.user`, its parts of other kinds left out; empty for any other body."""
    message = body.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content if isinstance(content, list) else ()
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))
