"""The view `messages` against the golden transcripts: the same messages, but for their tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from session_fabric.rules.fold import Fold
from session_fabric.words.events import Event
from session_fabric_gateway.encoding import in_messages

from tests.fabric.rules.test_golden import TRANSCRIPTS, read


def without_tools(events: list[Event]) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    fold = Fold()
    for event in events:
        fold.add(event)
    # A tool call that no message has is one of its own: what follows it follows what it follows.
    alone = {m.id: m.parent for m in fold.messages() if m.id in {call.id for call in m.tool_calls} and not m.content}

    def parent(id: str | None) -> str | None:
        return parent(alone[id]) if id in alone else id

    kept = [m for m in fold.messages() if m.id not in alone]
    messages = [{**m.plain(), "tool_calls": [], "parent": parent(m.parent)} for m in kept]
    path = [m.id for m in fold.path() if m.id not in alone]
    return messages, path, [m.id for m in fold.superseded if m.id not in alone]


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_view_messages_folds_to_the_same_messages(path: Path) -> None:
    events, _ = read(path)
    shown = [event for event in events if in_messages(event.type)]
    assert without_tools(shown) == without_tools(events)
