"""How far each participant has read, and how much is beyond."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from session_fabric.rules.messages import Message
from session_fabric.words.positions import Offset


class Cursor(NamedTuple):
    """How far one device of a participant has read: everything up to and including `offset`."""

    participant: str
    device: str
    offset: Offset


def seen(cursors: Iterable[Cursor], messages: Sequence[Message]) -> dict[str, Any]:
    """Return the body of `_seen`: by participant the newest cursor of its devices, each device's, and `unread`.

    Unread are messages with content that begin behind the newest cursor and are somebody else's.
    """
    everybody: list[Offset] = []
    by_actor: dict[str, list[Offset]] = {}
    for message in messages:
        if message.content and message.role != "reasoning":
            everybody.append(message.first)
            by_actor.setdefault(message.actor, []).append(message.first)
    everybody.sort()
    for own in by_actor.values():
        own.sort()
    devices: dict[str, dict[str, Offset]] = {}
    for cursor in cursors:
        devices.setdefault(cursor.participant, {})[cursor.device] = cursor.offset
    participants = {}
    for participant in sorted(devices):
        newest = max(devices[participant].values())
        unread = _behind(everybody, newest) - _behind(by_actor.get(participant, ()), newest)
        shown = {device: str(offset) for device, offset in sorted(devices[participant].items())}
        participants[participant] = {"offset": str(newest), "unread": unread, "devices": shown}
    return {"participants": participants}


def _behind(offsets: Sequence[Offset], offset: Offset) -> int:
    return len(offsets) - bisect_right(offsets, offset)
