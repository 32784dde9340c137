"""How long clients are given to go elsewhere. A rule: no I/O."""

from __future__ import annotations

from typing import Final

# What one process takes over without keeping those who are there already waiting: half of what it can
# (docs/benchmarks.md, new connections).
TAKEN_OVER_A_SECOND: Final = 250
# Of the time until whatever is left is cut: there must be some left for those who came late.
_AT_MOST: Final = 0.7
# Of the time that clients have, they are asked to have gone within so much.
_ASKED: Final = 0.8


def spread_s(clients: int, drain_s: float, stop_s: float) -> float:
    """Return the time for so many clients: `drain_s`, and more where they would all come at once."""
    return max(drain_s, min(clients / TAKEN_OVER_A_SECOND / _ASKED, stop_s * _AT_MOST))


def after_ms(spread_s: float) -> int:
    """Return within which time each client is asked to go, at a random moment."""
    return int(spread_s * _ASKED * 1000)
