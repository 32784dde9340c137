"""A conversation as AG-UI's messages, and the shared state as its events left it. Pure, from the session's events."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
from session_fabric.rules.fold import Fold
from session_fabric.rules.messages import Message
from session_fabric.words.wire import Record

from session_fabric_gateway.dialects.ag_ui.saying import Said, thoughts_of

_STATE_WHOLE = "STATE_SNAPSHOT"
_STATE_CHANGED = "STATE_DELTA"


class Restating:
    """Takes a session's events, and says how things stand."""

    def __init__(self) -> None:
        self._fold = Fold()
        self._states: list[tuple[str | None, Said]] = []

    def add(self, record: Record) -> None:
        if record.type in (_STATE_WHOLE, _STATE_CHANGED) and record.type == record.delivered_type:
            if record.type == _STATE_WHOLE:
                self._states.clear()
            self._states.append((record.run, orjson.loads(record.body)))
        self._fold.add(record.event())

    def messages(self) -> list[Message]:
        """Return the messages that a chat shows."""
        return self._fold.path()

    def states(self, before: str | None) -> list[Said]:
        """Return the events that bring about the state as it was before a run (None: as it is), as they were written.

        Where that run has stated the whole, nothing before it counts any more, and nothing is returned.
        """
        return [event for run, event in self._states if before is None or run != before]


def ag_ui_messages(
    messages: Collection[Message], *, without: str | None = None, blanks: bool = True
) -> list[dict[str, Any]]:
    """Spell messages as AG-UI does, but for those of one run: what was thought, what is said, what tools returned.

    With `blanks` what that run has thought is there without its words: else AG-UI's clients keep what they have of it.
    """
    out: list[dict[str, Any]] = []
    for message in messages:
        if message.run is None or message.run != without:
            out += _spelled(message)
        elif blanks and (message.role == "reasoning" or message.reasoning):
            id = message.id if message.role == "reasoning" else thoughts_of(message.id)
            out.append({"id": id, "role": "reasoning", "content": ""})
    return out


def _spelled(message: Message) -> list[dict[str, Any]]:
    content = message.content
    if message.role == "reasoning":
        return [{"id": message.id, "role": "reasoning", "content": message.reasoning or content}]
    thoughts = {"id": thoughts_of(message.id), "role": "reasoning", "content": message.reasoning}
    said: dict[str, Any] = {"id": message.id, "role": message.role, "content": content}
    if message.role != "user":
        said["content"] = content if isinstance(content, str) else _text(content)
    if message.tool_calls:
        said["toolCalls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.args}}
            for call in message.tool_calls
        ]
    results = [
        {"id": f"{call.id}-result", "role": "tool", "toolCallId": call.id, "content": _result(call.result)}
        for call in message.tool_calls
        if call.result is not None
    ]
    return [*([thoughts] if message.reasoning else []), said, *results]


def _result(result: Any) -> str:
    return result if isinstance(result, str) else orjson.dumps(result).decode()


def _text(content: object) -> str:
    parts = content if isinstance(content, list) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))
