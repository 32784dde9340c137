"""Who traces: the port, and the one that only passes context on. `session_fabric.otel` makes spans of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Literal, Protocol

from session_fabric.words.traces import CARRIED, TraceContext

Kind = Literal["server", "producer", "consumer", "client", "internal"]
Attributes = Mapping[str, str | int]


class Traces(Protocol):
    """Takes what is worth a span: never a token. Never raises, never waits."""

    def span(
        self, name: str, kind: Kind, attributes: Attributes, parent: TraceContext | None = None
    ) -> AbstractContextManager[None]:
        """Make a span of what happens in the block, under `parent`, else under what is under way; an exception that
        leaves the block marks it as failed by its type, its text is told to nobody."""

    def current(self) -> TraceContext | None:
        """Return what is under way now: what is stored carries it."""


class PassedOn:
    """Makes no spans; what came with a request goes on with what is stored of it."""

    @contextmanager
    def span(self, name: str, kind: Kind, attributes: Attributes, parent: TraceContext | None = None) -> Iterator[None]:
        if parent is None:
            yield
            return
        token = CARRIED.set(parent)
        try:
            yield
        finally:
            CARRIED.reset(token)

    def current(self) -> TraceContext | None:
        return CARRIED.get()


PASSED_ON: Final = PassedOn()
