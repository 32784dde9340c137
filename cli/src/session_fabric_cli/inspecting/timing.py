"""When each event of a replay is due. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Timing:
    """`speed` times as fast as it was (0: at once), no pause longer than `most_pause_s` (None: as long as it was)."""

    speed: float = 1.0
    most_pause_s: float | None = None
    _last_ms: int | None = None

    def pause_s(self, ts_ms: int) -> float:
        """Return how long to wait for the next event. What stands earlier than the one before is due at once."""
        last, self._last_ms = self._last_ms, max(ts_ms, self._last_ms or ts_ms)
        if last is None or self.speed == 0:
            return 0.0
        pause_s = max(0, ts_ms - last) / 1000 / self.speed
        return pause_s if self.most_pause_s is None else min(pause_s, self.most_pause_s)
