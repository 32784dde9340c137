"""Who gets to see what is in a session. Pure, and on the hot path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from session_fabric.words.arguments import check_text
from session_fabric.words.delivered import Common, Delivered
from session_fabric.words.errors import Forbidden, InvalidRequest
from session_fabric.words.events import WHISPERS
from session_fabric.words.names import escape
from session_fabric.words.wire import Record

MAX_WHISPER_BYTES: Final = 16 * 1024
_WHISPERED: Final = escape(WHISPERS)


def sees_all(role: str) -> bool:
    """Say whether participants of a role see what is whispered: all but users."""
    return role != "user"


def is_whispered(event: Record | Common) -> bool:
    """Say whether an event is none of a user's business."""
    # Nearly none is: its subject is not taken apart for that.
    return _WHISPERED in event.subject and event.parts.name == WHISPERS


def for_users(records: Sequence[Record]) -> Sequence[Record]:
    """Leave out what users do not see; mostly there is nothing."""
    if type(records) is Delivered:  # of an abstract class's kind, `isinstance` asks in half a microsecond
        return records.where(lambda common: not is_whispered(common))
    for record in records:
        if is_whispered(record):
            return [record for record in records if not is_whispered(record)]
    return records


def check_whisper(role: str, text: str) -> None:
    """Raise `Forbidden`, `InvalidRequest` for a whisper that nobody should hear."""
    if role not in ("operator", "supervisor", "service"):
        raise Forbidden(
            f"Participants of role {role} cannot whisper.",
            hint="Operators, supervisors and services can; anybody can steer a run: control with the action steer.",
            role=role,
        )
    size = len(check_text(text, "What is whispered").encode("utf-8", "surrogatepass"))
    if not text or size > MAX_WHISPER_BYTES:
        raise InvalidRequest(
            f"What is whispered has {size} bytes.", hint=f"Use 1 to {MAX_WHISPER_BYTES}.", limit=MAX_WHISPER_BYTES
        )
