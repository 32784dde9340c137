"""What a framework's module says where the framework is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from session_fabric.words.errors import ExtraMissing


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import within it what an extra of this package brings. Raises `ExtraMissing` where that is not installed."""
    try:
        yield
    except ImportError as error:
        raise ExtraMissing(
            f"What session_fabric.frameworks needs for {name} is not installed ({error.name or error}).",
            hint=f"pip install 'session-fabric[{name}]'",
            extra=name,
        ) from error
