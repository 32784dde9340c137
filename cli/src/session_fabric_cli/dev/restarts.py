"""When a child that died is started again: decided here, without I/O."""

from __future__ import annotations

from typing import Final

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
# A child that ran for this long was healthy: its next death is a new story.
STEADY_S: Final = 10.0


class Restarts:
    """Delays that double with each death in quick succession: 0.1 s, 0.2 s … 10 s."""

    def __init__(self) -> None:
        self.deaths = 0

    def died(self, ran_s: float) -> float:
        """Note a death after `ran_s` seconds of life; return for how many seconds to wait."""
        self.deaths = 1 if ran_s >= STEADY_S else self.deaths + 1
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self.deaths - 1, 10))
