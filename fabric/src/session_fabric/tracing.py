"""Who traces: the port, and the one that only passes context on. `session_fabric.otel` makes spans of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Literal, Protocol

from session_fabric.words.traces import CARRIED, TraceContext

Kind = Literal["server", "producer", "consumer", "client", "internal"]
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """What a block is a span of."""

    def note(self, attributes: Attributes) -> None:
        """Say what was not known at its beginning."""

    def failed(self, kind: str) -> None:
        """Mark it as failed, by the kind of the error; its text is told to nobody."""


class Traces(Protocol):
    """Takes what is worth a span: never a token. Never raises, never waits."""

    def span(
        self, name: str, kind: Kind, attributes: Attributes, parent: TraceContext | None = None
    ) -> AbstractContextManager[Span]:
        """Make a span of what happens in the block, under `parent`, else under what is under way; an exception that
        leaves the block marks it as failed by its type."""

    def current(self) -> TraceContext | None:
        """Return what is under way now: what is stored carries it."""


class _NoSpan:
    def note(self, attributes: Attributes) -> None: ...

    def failed(self, kind: str) -> None: ...


NO_SPAN: Final[Span] = _NoSpan()
_NOTHING: Final = nullcontext(NO_SPAN)


class PassedOn:
    """Makes no spans; what came with a request goes on with what is stored of it."""

    def span(
        self, name: str, kind: Kind, attributes: Attributes, parent: TraceContext | None = None
    ) -> AbstractContextManager[Span]:
        return _NOTHING if parent is None else self._carried(parent)

    @contextmanager
    def _carried(self, parent: TraceContext) -> Iterator[Span]:
        token = CARRIED.set(parent)
        try:
            yield NO_SPAN
        finally:
            CARRIED.reset(token)

    def current(self) -> TraceContext | None:
        return CARRIED.get()


PASSED_ON: Final = PassedOn()
