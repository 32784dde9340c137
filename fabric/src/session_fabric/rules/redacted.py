"""What is left of a message whose content was removed: what its event says of it, and that as a message. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from session_fabric.rules.messages import GrowingMessage, named
from session_fabric.words.errors import InvalidOffset
from session_fabric.words.events import Event
from session_fabric.words.names import is_id
from session_fabric.words.positions import Offset


def facts_of(draft: GrowingMessage, role: str) -> dict[str, Any]:
    """Return what of a message is nobody's words: who wrote it, where it stood and what it followed."""
    facts: dict[str, Any] = {
        "role": role,
        "actor": draft.actor,
        "run": draft.run,
        "first": str(draft.first),
        "last": str(draft.last),
        "done": None if draft.done is None else str(draft.done),
        "said": draft.said,
    }
    return facts if draft.named is ... else facts | {"parent": draft.named}


def redacted_message(id: str, event: Event, left: object) -> GrowingMessage | None:
    """Return the message that a redaction leaves; None where its event says of none."""
    if not isinstance(left, Mapping):
        return None
    role, actor, run, done = left.get("role"), left.get("actor"), left.get("run"), left.get("done")
    draft = GrowingMessage(id, event, left.get("said") is True)
    try:
        draft.first, draft.last = Offset.parse(str(left.get("first"))), Offset.parse(str(left.get("last")))
        draft.done = None if done is None else Offset.parse(str(done))
    except InvalidOffset:
        return None
    draft.role, draft.actor, draft.redacted = str(role), str(actor), True
    draft.run = run if isinstance(run, str) and is_id(run) else None
    draft.named = named(left.get("parent", ...))
    return draft
