"""What a measurement writes, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from session_fabric.words.errors import InvalidRequest

MOST_SESSIONS: Final = 500
MOST_SECONDS: Final = 600
MOST_BYTES: Final = 256 * 1024 - 1024  # a body's bound, less what is around the text
# One process that writes and reads in one loop measures itself beyond this.
MOST_PER_S: Final = 2000.0
_MOST_STORED: Final = 1024**3


class Load(NamedTuple):
    """`rate`: events a second in each session; `size`: bytes of text in each event."""

    sessions: int
    seconds: int
    rate: float
    size: int

    @property
    def per_s(self) -> float:
        return self.sessions * self.rate

    @property
    def events(self) -> int:
        """How many events each session gets; one at least."""
        return max(1, int(self.seconds * self.rate))

    def due_s(self, session: int) -> Iterator[float]:
        """Yield when each event of a session is due, seconds from the beginning; sessions take turns."""
        return ((number + session / self.sessions) / self.rate for number in range(self.events))

    def body(self) -> dict[str, Any]:
        return {"type": "CUSTOM", "name": "fabricctl.bench", "value": "x" * self.size}


def check(load: Load, most_per_s: float = MOST_PER_S, *, whose: str = "one fabricctl writes") -> Load:
    """Return it where it can be carried. Raises `InvalidRequest`."""
    if load.per_s > most_per_s:
        raise InvalidRequest(
            f"--sessions {load.sessions} at --rate {load.rate:g} are {load.per_s:,.0f} events a second; "
            f"{whose} at most {most_per_s:,.0f}.",
            hint="Lower one of them.",
        )
    stored = load.sessions * load.events * load.size
    if stored > _MOST_STORED:
        raise InvalidRequest(
            f"That would store {stored / _MOST_STORED:.1f} GiB; at most 1 GiB is.",
            hint="Lower --seconds, --rate or --size.",
        )
    return load
