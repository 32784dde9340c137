"""What a measurement has seen, and how it is told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# This late, the figures are of this machine as much as of the deployment.
_LATE_MS: Final = 20.0
_BEHIND: Final = 0.95


@dataclass
class Measured:
    """One way through: what was written by it and what came back. Times are seconds.

    `planned`: events that were to be written. `late_s`: how long after it was due each was. `read`: events read again
    from the beginning, in `read_s`.
    """

    through: str
    planned: int
    seconds: float = 0.0
    append_s: list[float] = field(default_factory=list)
    delivery_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    read: int = 0
    read_s: float = 0.0

    @property
    def missing(self) -> int:
        """How many events were stored and never came to who listened."""
        return len(self.append_s) - len(self.delivery_s)

    def told(self) -> dict[str, Any]:
        return {
            "through": self.through,
            "planned": self.planned,
            "appended": len(self.append_s),
            "per_s": round(len(self.append_s) / self.seconds, 1) if self.seconds else 0.0,
            "append_ms": _spread(self.append_s),
            "delivery_ms": _spread(self.delivery_s),
            "missing": self.missing,
            "late_ms": _spread(self.late_s),
            "catch_up": {
                "events": self.read,
                "seconds": round(self.read_s, 4),
                "per_s": round(self.read / self.read_s) if self.read_s else 0,
            },
        }

    def doubts(self) -> list[str]:
        """Return what whoever reads the figures has to know of them."""
        said = []
        if len(self.append_s) < self.planned * _BEHIND:
            said.append(
                f"Through the {self.through} {len(self.append_s):,} of {self.planned:,} events were written in time: "
                "it does not keep up with this load from one process."
            )
        late = _spread(self.late_s)["p99"]
        if late is not None and late > _LATE_MS:
            said.append(
                f"This process was late by {late:.0f} ms (p99) through the {self.through}: "
                "it waited for its own processor or for answers, and the figures have some of that in them."
            )
        return said


def _spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return middle, 99th percentile and worst, in milliseconds; None where there is nothing."""
    if not seconds:
        return {"p50": None, "p99": None, "max": None}
    ordered = sorted(seconds)
    places = {"p50": len(ordered) // 2, "p99": min(len(ordered) - 1, len(ordered) * 99 // 100), "max": -1}
    return {name: round(ordered[at] * 1000, 3) for name, at in places.items()}
