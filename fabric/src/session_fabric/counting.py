"""Who counts: the port, and the one that does not. `session_fabric.metrics` counts with prometheus-client."""

from __future__ import annotations

from typing import Final, Protocol

from session_fabric.words.measures import Counter, Gauge, Histogram


class Metrics(Protocol):
    """Takes what is counted. Never raises, never waits; a label's value outside its closed set counts as `other`."""

    def count(self, what: Counter, value: str = "", by: float = 1) -> None:
        """Let a counter rise."""

    def set(self, what: Gauge, number: float, value: str = "") -> None:
        """Say how much there is now."""

    def add(self, what: Gauge, by: float) -> None:
        """Say by how much there is more, or less, than before."""

    def observe(self, what: Histogram, number: float) -> None:
        """Put a measurement into its bucket."""


class NoMetrics:
    """Counts nothing."""

    def count(self, what: Counter, value: str = "", by: float = 1) -> None: ...
    def set(self, what: Gauge, number: float, value: str = "") -> None: ...
    def add(self, what: Gauge, by: float) -> None: ...
    def observe(self, what: Histogram, number: float) -> None: ...


NOT_COUNTED: Final = NoMetrics()
