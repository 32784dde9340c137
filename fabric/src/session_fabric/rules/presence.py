"""What a member may show of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

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
