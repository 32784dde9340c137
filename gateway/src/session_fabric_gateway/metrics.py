"""What is counted. Labels come from closed sets; a session's name is never one."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_P: Final = "session_fabric_gateway"
_LATENCY_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one gateway process; of all workers together where there are several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections = self._gauge("connections", "Open connections.", ["transport"])
        self.subscriptions = self._gauge("subscriptions", "Sessions that connections have open.")
        self.feeds = self._gauge("feeds", "Sessions that this gateway follows.")
        self.broker_connected = self._gauge("broker_connected", "1 while the broker is connected.")
        self.delivered = self._counter("events_delivered", "Events handed to live readers.")
        self.written = self._counter("written_bytes", "Bytes written to connections.")
        self.slow = self._counter("slow_consumers", "Connections closed because they did not read.")
        self.lagged = self._counter("lagged", "Times that a connection took no more and was caught up later.")
        self.refusals = self._counter("refusals", "Requests refused.", ["code"])
        self.limited = self._counter("limited", "Times that a limit was reached.", ["limit"])
        self.cuts = self._counter("cuts", "Connections cut without a word.", ["reason"])
        self.closes = self._counter("closes", "Connections closed by the gateway.", ["code"])
        self.opens = self._counter("opens", "Sessions opened, by how they began.", ["outcome"])
        self.append_s = self._histogram("append_seconds", "From a request to append to its answer.")
        self.delivery_s = self._histogram("delivery_seconds", "From the broker's time of an event to its write.")

    def _gauge(self, name: str, text: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(f"{_P}_{name}", text, labels or [], registry=self.registry, multiprocess_mode="livesum")

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"{_P}_{name}", text, labels or [], registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"{_P}_{name}", text, registry=self.registry, buckets=_LATENCY_S)

    def text(self) -> bytes:
        """Return Prometheus text; with several workers, of all of them."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
