"""Traces by OpenTelemetry (`session-fabric[otel]`): spans of appends, runs and tools, across processes in one trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Span as TheirSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from session_fabric.tracing import Attributes, Kind, Span
from session_fabric.words.traces import CARRIED, PARENT, STATE, TraceContext

_KINDS: Final[dict[Kind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_CARRIER: Final = TraceContextTextMapPropagator()


class _Span:
    def __init__(self, span: TheirSpan) -> None:
        self._span = span

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def failed(self, kind: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, kind))
        self._span.set_attribute("error.type", kind)


class OpenTelemetryTraces:
    """`Fabric.connect(…, traces=OpenTelemetryTraces())`: through your tracer provider, the global one if not given.

    Spans that your code begins in a handler (of a model's client, say) stand under the run's.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("session_fabric", version("session-fabric"), provider)

    @contextmanager
    def span(self, name: str, kind: Kind, attributes: Attributes, parent: TraceContext | None = None) -> Iterator[Span]:
        under = contexts.get_current() if parent is None else _CARRIER.extract(parent.headers)
        span = self._tracer.start_span(name, under, _KINDS[kind], dict(attributes))
        attached = contexts.attach(trace.set_span_in_context(span, under))
        carried = CARRIED.set(self.current())
        one = _Span(span)
        try:
            yield one
        except Exception as error:
            one.failed(type(error).__name__)  # its text may quote what was said
            raise
        finally:
            CARRIED.reset(carried)
            contexts.detach(attached)
            span.end()

    def current(self) -> TraceContext | None:
        headers: dict[str, str] = {}
        _CARRIER.inject(headers)
        return TraceContext(headers[PARENT], headers.get(STATE, "")) if PARENT in headers else None
