"""Counting with prometheus-client (`session-fabric[metrics]`): the metrics, and a port to scrape them from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import prometheus_client as prometheus
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from session_fabric.words.errors import PortBusy
from session_fabric.words.measures import ALL, FIRST_TEXT, OTHER, RUN, RUN_WAIT, Counter, Gauge, Histogram
from session_fabric.words.traces import CARRIED
from session_fabric.words.version import VERSION

SEVERAL: Final = "PROMETHEUS_MULTIPROC_DIR"
# Observed once a run, within its span. Not what is observed for each token: it would cost more than the observation.
_EXEMPLIFIED: Final = frozenset({RUN.name, RUN_WAIT.name, FIRST_TEXT.name})


def exemplar() -> dict[str, str] | None:
    """Return what finds the trace of what is observed now, where somebody keeps it."""
    carried = CARRIED.get()
    return {"trace_id": carried.trace_id} if carried is not None and carried.sampled else None


class PrometheusMetrics:
    """The fabric's metrics of one process: `Fabric.connect(…, metrics=PrometheusMetrics())`.

    `component` is what `session_fabric_build_info` says that this process is. With a `registry` of your own they stand
    beside your own metrics. Where PROMETHEUS_MULTIPROC_DIR is set, several processes are scraped as one.
    """

    def __init__(self, registry: prometheus.CollectorRegistry | None = None, *, component: str = "agent") -> None:
        self.registry = prometheus.CollectorRegistry() if registry is None else registry
        self._children: dict[tuple[str, str], Any] = {}
        for measure in ALL:
            self._make(measure)
        info = prometheus.Gauge(
            "session_fabric_build_info",
            "1; what runs here.",
            ["component", "version"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        info.labels(component, VERSION).set(1)

    def _make(self, measure: Counter | Gauge | Histogram) -> None:
        """Make all series there can be at once: a rate of what has not happened yet is 0, not nothing."""
        match measure:
            case Histogram(name, text, buckets):
                self._children[name, ""] = prometheus.Histogram(name, text, registry=self.registry, buckets=buckets)
                return
            case Gauge(name, text, label, values, together):
                family: Any = prometheus.Gauge(
                    name,
                    text,
                    [label] if label else [],
                    registry=self.registry,
                    multiprocess_mode="livesum" if together == "sum" else "livemax",
                )
            case Counter(name, text, label, values):
                family = prometheus.Counter(name, text, [label] if label else [], registry=self.registry)
        if measure.label is None:
            self._children[name, ""] = family
        else:
            for value in (*values, OTHER):
                self._children[name, value] = family.labels(value)

    def _child(self, what: Counter | Gauge, value: str) -> Any:
        found = self._children.get((what.name, value))
        return self._children[what.name, OTHER] if found is None else found

    # --- counting.Metrics -----------------------------------------------------------------------------

    def count(self, what: Counter, value: str = "", by: float = 1) -> None:
        self._child(what, value).inc(by)

    def set(self, what: Gauge, number: float, value: str = "") -> None:
        self._child(what, value).set(number)

    def add(self, what: Gauge, by: float) -> None:
        self._children[what.name, ""].inc(by)

    def observe(self, what: Histogram, number: float) -> None:
        self._children[what.name, ""].observe(number, exemplar() if what.name in _EXEMPLIFIED else None)

    # --- being scraped --------------------------------------------------------------------------------

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return what a scraper gets that accepts this, and its content type: Prometheus text, or OpenMetrics."""
        registry = self.registry
        if SEVERAL in os.environ:
            registry = prometheus.CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    @contextmanager
    def serving(self, port: int, host: str = "127.0.0.1") -> Iterator[int]:
        """Answer `GET /metrics` in a thread for as long as the block lasts; yields the port. Raises `PortBusy`."""
        try:
            server, thread = prometheus.start_http_server(port, host, self.registry)
        except OSError as error:
            raise PortBusy(
                f"Port {port} of {host} cannot be opened: {error.strerror or error}.",
                hint="Choose another one; 0 is a free one.",
                port=port,
            ) from error
        try:
            yield int(server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
