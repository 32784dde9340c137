"""What is counted beside what the fabric counts. Labels come from closed sets; a session's name is never one."""

from __future__ import annotations

from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import BaseModel
from session_fabric import FabricError
from session_fabric.metrics import PrometheusMetrics, exemplar
from session_fabric.words.errors import KeysUnavailable, TokenExpired

from session_fabric_gateway import codes
from session_fabric_gateway.allowances import Allowances
from session_fabric_gateway.codes import Close, Defect
from session_fabric_gateway.strangers import Cut
from session_fabric_gateway.tokens.issuer import Outcome
from session_fabric_gateway.tokens.shape import Reason

_P: Final = "session_fabric_gateway"
_LATENCY_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EVENTS: Final = (0, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


class Metrics:
    """The metrics of one gateway process; of all workers together where there are several.

    `fabric` counts what happens below, in the same registry.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.fabric = PrometheusMetrics(self.registry, component="gateway")
        self.text = self.fabric.text
        self.connections = self._gauge("connections", "Open connections.", ["transport"])
        self.lanes = self._gauge("lanes", "Devices that share a connection with others of their participant.")
        self.subscriptions = self._gauge("subscriptions", "Sessions that connections have open.")
        self.feeds = self._gauge("feeds", "Sessions that this gateway follows.")
        self.draining = self._gauge("draining", "1 while this gateway sends everybody elsewhere.")
        self.buffered = self._gauge("buffered_bytes", "Bytes that connections have not taken yet.")
        self.stalled = self._gauge("stalled_connections", "Connections that take no more for now.")
        self.delivered = self._counter("events_delivered", "Events handed to live readers.")
        self.written = self._counter("written_bytes", "Bytes written to connections.")
        self.slow = self._counter("slow_consumers", "Connections closed because they did not read.")
        self.lagged = self._counter("lagged", "Times that a connection took no more and was caught up later.")
        self.durable = self._counter("durable_requests", "Requests for durable streams.", ["operation", "outcome"])
        self.durable_open = self._gauge("durable_requests_open", "Those that are under way.", ["operation"])
        self.refusals = self._counter("refusals", "Requests refused.", ["code"])
        self.auth_refusals = self._counter("auth_refusals", "Tokens refused, by why.", ["reason"])
        self.jwks = self._counter("jwks_fetches", "Times that the issuer was asked for its keys.", ["outcome"])
        self.jwks_age = self._gauge("jwks_age_seconds", "How old the issuer's keys are.", mode="livemax")
        self.keys = self._gauge("token_keys", "Keys that tokens are verified with.", ["source"], mode="livemax")
        self.limited = self._counter("limited", "Times that a limit was reached.", ["limit"])
        self.cuts = self._counter("cuts", "Connections cut without a word.", ["reason"])
        self.closes = self._counter("closes", "Connections closed by the gateway.", ["code"])
        self.opens = self._counter("opens", "Sessions opened, by how they began.", ["outcome"])
        self.resumes = self._counter("resumes", "Readers that came back with an offset.", ["outcome"])
        self.append_s = self._histogram("append_seconds", "From a request to append to its answer.")
        self.delivery_s = self._histogram("delivery_seconds", "From the broker's time of an event to its write.")
        self.catch_up_s = self._histogram("catch_up_seconds", "From opening a session to being live in it.")
        self.catch_up = self._histogram("catch_up_events", "Events that a reader got before it was live.", _EVENTS)
        # What has not happened yet is 0, not nothing: an alert on a rate would miss the first time.
        for outcome in ("memory", "log", "offset_gone", "offset_foreign"):
            self.resumes.labels(outcome)
        for reason in (*get_args(Reason), TokenExpired.code, KeysUnavailable.code):
            self.auth_refusals.labels(reason)
        self.refusals.labels(Defect.code)
        for outcome in get_args(Outcome):
            self.jwks.labels(outcome)
        for source in ("own", "issuer"):
            self.keys.labels(source)
        for why in get_args(Cut):
            self.cuts.labels(why)
        for close in (close for close in vars(codes).values() if isinstance(close, Close)):
            self.closes.labels(str(close.code))
        for scope, limits in Allowances():
            for limit in type(limits).model_fields if isinstance(limits, BaseModel) else ():
                self.limited.labels(f"{scope}.{limit}")
        for operation in ("make", "append", "delete", "head", "read", "long_poll", "sse"):
            self.durable_open.labels(operation)
            for outcome in ("ok", "refused", "failed", "left"):
                self.durable.labels(operation, outcome)
        for transport in ("websocket", "sse"):
            self.connections.labels(transport)

    def _gauge(
        self, name: str, text: str, labels: list[str] | None = None, mode: Literal["livesum", "livemax"] = "livesum"
    ) -> Gauge:
        return Gauge(f"{_P}_{name}", text, labels or [], registry=self.registry, multiprocess_mode=mode)

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"{_P}_{name}", text, labels or [], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = _LATENCY_S) -> Histogram:
        return Histogram(f"{_P}_{name}", text, registry=self.registry, buckets=buckets)

    def appended(self, seconds: float) -> None:
        """A request to append was answered."""
        self.append_s.observe(seconds, exemplar())

    def caught_up(self, events: int, seconds: float) -> None:
        """A reader that has opened a session is live in it."""
        self.catch_up.observe(events)
        self.catch_up_s.observe(seconds)

    def resumed(self, outcome: str) -> None:
        """A reader came with an offset: what is behind it was had from `memory`, from the `log`, or (a code) not."""
        self.resumes.labels(outcome).inc()

    def jwks_fetched(self, outcome: Outcome) -> None:
        """The issuer was asked for its keys."""
        self.jwks.labels(outcome).inc()

    def keys_held(self, own: int, issuer: int, age_s: float) -> None:
        """See `tokens.sources.Counts`."""
        self.keys.labels("own").set(own)
        self.keys.labels("issuer").set(issuer)
        self.jwks_age.set(age_s)

    def auth_refused(self, error: FabricError) -> None:
        """A token was refused."""
        self.auth_refusals.labels(str(error.facts.get("reason", error.code))).inc()
