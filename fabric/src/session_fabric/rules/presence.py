"""What a member may show of itself, and when a session is told of members that are there through several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson

from session_fabric.words.errors import InvalidRequest, TooLarge

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
