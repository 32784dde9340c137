"""Traces by OpenTelemetry (`session-fabric[otel]`): spans of appends, runs and tools, across processes in one trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from session_fabric.tracing import Attributes, Kind
from session_fabric.words.traces import CARRIED, PARENT, STATE, TraceContext

_KINDS: Final[dict[Kind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_CARRIER: Final = TraceContextTextMapPropagator()


class OpenTelemetryTraces:
    """`Fabric.connect(…, traces=OpenTelemetryTraces())`: through your tracer provider, the global one if not given.

    Spans that your code begins in a handler (of a model's client, say) stand under the run's.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("session_fabric", version("session-fabric"), provider)

    @contextmanager
    def span(self, name: str, kind: Kind, attributes: Attributes, parent: TraceContext | None = None) -> Iterator[None]:
        under = contexts.get_current() if parent is None else _CARRIER.extract(parent.headers)
        span = self._tracer.start_span(name, under, _KINDS[kind], dict(attributes))
        attached = contexts.attach(trace.set_span_in_context(span, under))
        carried = CARRIED.set(self.current())
        try:
            yield
        except Exception as error:
            # Its text may quote what was said.
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            span.set_attribute("error.type", type(error).__name__)
            raise
        finally:
            CARRIED.reset(carried)
            contexts.detach(attached)
            span.end()

    def current(self) -> TraceContext | None:
        headers: dict[str, str] = {}
        _CARRIER.inject(headers)
        return TraceContext(headers[PARENT], headers.get(STATE, "")) if PARENT in headers else None
