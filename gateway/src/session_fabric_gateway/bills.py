"""What is read from the log, put down to who asked for it: an advance when it begins, then batch by batch."""

from __future__ import annotations

import time
from typing import Final

from session_fabric.history import Read

from session_fabric_gateway.accounts import Meter

# Who reads more of it than it may goes on after a pause, of so long at most.
_LONGEST_PAUSE_S: Final = 5.0
_NOTHING: Final = Read(0, 0)


class Bill:
    """What one request, or one reader of a session, has read. Who never settles has paid the advance."""

    __slots__ = ("_advance", "_meter")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._advance = 0.0

    def open(self) -> None:
        """Let reading begin. Raises `RateLimited` while more was read than may be."""
        self._advance += self._meter.begin_history(time.monotonic())

    def owe(self, read: Read) -> float:
        """Count what was read; return for how long nothing more should be."""
        advance, self._advance = self._advance, 0.0
        return min(self._meter.owe_history(time.monotonic(), read, advance), _LONGEST_PAUSE_S)

    def settle(self) -> None:
        """Get back what is left of the advance: no more is read."""
        if self._advance:
            self.owe(_NOTHING)
