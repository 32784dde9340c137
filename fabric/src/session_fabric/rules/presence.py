"""What a member may show of itself, and when a session is told of members that are there through several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson

from session_fabric.words.errors import InvalidRequest, TooLarge
from session_fabric.words.events import PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, Event
from session_fabric.words.positions import ZERO, Offset

Status = Literal["thinking", "tool", "waiting", "idle"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
MOST_DATA_BYTES: Final = 4096


def check_data(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return presence data, or raise `TooLarge`, `InvalidRequest`."""
    try:
        size = len(orjson.dumps(data))
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"Presence data must be JSON: {error}.") from error
    if size > MOST_DATA_BYTES:
        raise TooLarge(
            f"The presence data has {size} bytes; {MOST_DATA_BYTES} is the most.",
            hint="Keep names and states in it, and append the rest as an event.",
            limit=MOST_DATA_BYTES,
        )
    return data


def check_status(status: object) -> Status | None:
    """Return a status, or raise `InvalidRequest`."""
    if status is None:
        return None
    for known in STATUSES:
        if known == status:
            return known
    raise InvalidRequest(f"{status!r:.40} is not a status.", hint=f"Use {', '.join(STATUSES)}, or none.")


class Beside(NamedTuple):
    """A device as it is there through one process: `at`, when it came through it; `leaving`, being removed."""

    at: int
    holder: str
    leaving: bool


def on_joining(own: Beside, others: Sequence[Beside]) -> Literal["say", "quiet", "wait"]:
    """Say whether a session hears of a device that joins, by what stands beside it after it was written.

    Of several that come at the same time, the first by `at` speaks for all. While one is being removed nobody knows
    whether its leaving is said.
    """
    if any(other.leaving for other in others):
        return "wait"
    return "quiet" if any(other[:2] < own[:2] for other in others) else "say"


def has_left(others: Sequence[Beside]) -> bool:
    """Say whether a device that is removed is there no more, by what stands beside it after it was marked."""
    return all(other.leaving for other in others)


class _Stay:
    """What is known of one device: its newest leaving, and the first and newest events behind that."""

    __slots__ = ("first", "last", "left")

    def __init__(self) -> None:
        self.left: Offset = ZERO
        self.first: Event | None = None
        self.last: Event | None = None


class Present:
    """Who is there as a session's events say it, in whatever order and however often they come.

    What is said of somebody whose process was lost comes when the fabric has found that out: `Session.present` asks.
    """

    def __init__(self) -> None:
        self._stays: dict[tuple[str, str], _Stay] = {}

    def add(self, event: Event) -> None:
        if event.type not in (PRESENCE_JOINED, PRESENCE_UPDATED, PRESENCE_LEFT):
            return
        body = event.body
        stay = self._stays.setdefault((str(body.get("participant")), str(body.get("device"))), _Stay())
        if event.offset <= stay.left:
            return
        if event.type == PRESENCE_LEFT:
            stay.left = event.offset
            if stay.last is not None and stay.last.offset < event.offset:
                stay.last = None
            # Of several before and behind it the first one behind comes again when this one is late.
            if stay.first is not None and stay.first.offset < event.offset:
                stay.first = stay.last
            return
        if stay.first is None or event.offset < stay.first.offset:
            stay.first = event
        if stay.last is None or event.offset > stay.last.offset:
            stay.last = event

    def members(self) -> list[dict[str, Any]]:
        """Return each device that is there, the longest there first: as `Session.present` does."""
        found = []
        for (participant, device), stay in self._stays.items():
            if stay.first is None or stay.last is None:
                continue
            shown = stay.last.body
            member = {"participant": participant, "device": device, "data": shown.get("data"), "since": stay.first.ts}
            found.append((stay.first.offset, {**member, "status": shown.get("status")}))
        return [member for _, member in sorted(found, key=lambda pair: pair[0])]
