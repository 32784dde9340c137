"""Moments as they are given on the command line. Pure; now comes in."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from session_fabric.words.errors import InvalidRequest

_SPAN: Final = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def since_ms(text: str, now_ms: int, option: str = "--since") -> int:
    """Read how long ago (`10m`, `2h`, `3d`) or when (`2026-01-31`, `2026-01-31T14:00`, UTC unless it says else).

    Returns milliseconds since 1970. Raises `InvalidRequest`.
    """
    match = _SPAN.fullmatch(text)
    if match is not None:
        return max(0, now_ms - int(match[1]) * _UNITS_MS[match[2]])
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{option} {text!r:.40} is no time.", hint="Write 10m, 2h, 3d, 2026-01-31 or 2026-01-31T14:00."
        ) from error
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
