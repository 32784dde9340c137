"""How often something may be done: token buckets. Pure: times are seconds of the caller's own clock."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from session_fabric.words.errors import InvalidRequest

_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)([KM]?)(?:/(\d+(?:\.\d+)?)([KM]?))?", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 1024, "M": 1024 * 1024}
UNLIMITED: Final = "none"


class Rate(NamedTuple):
    """`per_s` in the long run, and up to `burst` at once after a pause."""

    per_s: float
    burst: float

    def __str__(self) -> str:
        return f"{self.per_s:.15g}/{self.burst:.15g}"


class Bucket:
    """What one of those who are held to a rate has left of it. Made full; one that is full again may be forgotten."""

    __slots__ = ("full_at",)

    def __init__(self) -> None:
        self.full_at = 0.0

    def wait_s(self, rate: Rate, now: float, cost: float = 1.0) -> float:
        """Return 0 where `cost` can be taken now, else how long until it can, if nobody else takes any.

        What costs more than a whole burst can be taken from a full bucket, which is in debt then.
        """
        debt = max(0.0, self.full_at - now) + (min(cost, rate.burst) - rate.burst) / rate.per_s
        # What is below a nanosecond is what floating point leaves over.
        return debt if debt > 1e-9 else 0.0

    def take(self, rate: Rate, now: float, cost: float = 1.0) -> None:
        """Take it, into debt where there is not so much."""
        self.full_at = max(self.full_at, now) + cost / rate.per_s

    def give_back(self, rate: Rate, cost: float = 1.0) -> None:
        """Put back what was taken by mistake; what is full stays full."""
        self.full_at -= cost / rate.per_s

    def full(self, now: float) -> bool:
        return self.full_at <= now


class Refusal(NamedTuple):
    """Which of several buckets was short of it, by its place among them, and for how long it will be."""

    place: int
    wait_s: float


def take_all(held: Sequence[tuple[Bucket, Rate | None]], now: float, cost: float = 1.0) -> Refusal | None:
    """Take from every bucket, or from none: then say which one makes us wait longest. A rate of None has no end."""
    worst: Refusal | None = None
    for place, (bucket, rate) in enumerate(held):
        if rate is not None:
            wait_s = bucket.wait_s(rate, now, cost)
            if wait_s > (worst.wait_s if worst else 0.0):
                worst = Refusal(place, wait_s)
    if worst is None:
        for bucket, rate in held:
            if rate is not None:
                bucket.take(rate, now, cost)
    return worst


def parse_rate(text: str) -> Rate | None:
    """Read `200` (a second), `200/1000` (and so many at once), `4M/32M`, or `none`. Raises `InvalidRequest`.

    A burst that is left out is two seconds' worth, and at least 1.
    """
    if text == UNLIMITED:
        return None
    match = _RATE.fullmatch(text)
    per_s = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    if not 0 < per_s < math.inf or not match:
        raise InvalidRequest(
            f"A rate is {text!r:.40}.", hint="Write 200 for so many a second, 200/1000 with a burst, or none."
        )
    burst = float(match[3]) * _UNITS[match[4].upper()] if match[3] else 2 * per_s
    if burst == math.inf:
        raise InvalidRequest(f"The burst of {text!r:.40} is too large.", hint=f"For no limit, write {UNLIMITED}.")
    if burst < 1:
        if match[3]:
            raise InvalidRequest(f"The burst of {text!r:.40} is below 1.", hint="Nothing could be done at all.")
        burst = 1.0
    return Rate(per_s, burst)
