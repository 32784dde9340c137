"""Traces of a whole process, to where OpenTelemetry's own variables say (`session-fabric[otlp]`): OTLP over HTTP."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog

from session_fabric.tracing import Traces
from session_fabric.words.errors import ExtraMissing, InvalidRequest
from session_fabric.words.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger()

_PROTOCOL: Final = "http/protobuf"
# What is left at the end is sent within this time, or lost: a collector that hangs must not keep a process.
_FLUSH_WITHIN_S: Final = 3.0


@contextmanager
def exporting(service: str) -> Iterator[Traces | None]:
    """Have the process's spans sent for as long as the block lasts; None, at no cost, where no endpoint is set.

    `service`: what it is called where OTEL_SERVICE_NAME does not say. Raises `ExtraMissing`, `InvalidRequest`.
    """
    if not _wanted(os.environ):
        yield None
        return
    try:
        from session_fabric.otel import OpenTelemetryTraces

        provider = _provider(service)
    except ImportError as error:
        raise ExtraMissing(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and what would send traces there is not installed.",
            hint="pip install 'session-fabric[otlp]', or set OTEL_TRACES_EXPORTER=none.",
        ) from error
    try:
        yield OpenTelemetryTraces(provider)
    finally:
        ending = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
        ending.start()
        ending.join(_FLUSH_WITHIN_S)
        if ending.is_alive():
            log.warning("traces_lost", seconds=_FLUSH_WITHIN_S)


def _wanted(environment: Mapping[str, str]) -> bool:
    """Say whether there is somewhere to send traces to. Raises `InvalidRequest` for what we do not speak."""

    def said(name: str) -> str:
        return environment.get(f"OTEL_{name}", "").strip()

    exporter = said("TRACES_EXPORTER").lower()
    if said("SDK_DISABLED").lower() == "true" or exporter == "none":
        return False
    if not (said("EXPORTER_OTLP_TRACES_ENDPOINT") or said("EXPORTER_OTLP_ENDPOINT")):
        return False
    if exporter not in ("", "otlp"):
        raise InvalidRequest(f"OTEL_TRACES_EXPORTER is {exporter!r:.40}.", hint="Use otlp, or none.")
    protocol = said("EXPORTER_OTLP_TRACES_PROTOCOL") or said("EXPORTER_OTLP_PROTOCOL") or _PROTOCOL
    if protocol != _PROTOCOL:
        raise InvalidRequest(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r:.40}.", hint=f"Use {_PROTOCOL}: port 4318 of a collector."
        )
    return True


def _provider(service: str) -> TracerProvider:
    """Return who samples, gathers and sends; the rest of OTEL_* it reads by itself. Raises `ImportError`."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = Resource.create({"service.name": service, "service.version": VERSION})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
