"""The log of a process of ours, on stderr: one event a line, whoever writes it, and nothing of what is said.

An exception is told by its types and by where it was raised. Its text may quote what somebody said, and is not told.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, Final, Literal, get_args

import structlog
from structlog.typing import Processor

from session_fabric.words.errors import FabricError, InvalidRequest
from session_fabric.words.traces import with_trace

Form = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error", "critical"]
Event = MutableMapping[str, Any]

VARIABLE: Final = "SESSION_FABRIC_LOG_FORMAT"
# Of exceptions that were caught while others were handled: beyond this the rest is left out.
_MOST_CAUSES: Final = 8


def form_of(said: str | None = None) -> Form:
    """Return the form that was said, else that of the environment, else `console` for a terminal and `json` for all
    else. Raises `InvalidRequest`."""
    said = said or os.environ.get(VARIABLE) or ("console" if sys.stderr.isatty() else "json")
    for form in get_args(Form):
        if said == form:
            return form  # type: ignore[no-any-return]
    raise InvalidRequest(f"The form of the log is {said!r:.40}.", hint="Use json or console.")


def to_stderr(level: Level, form: Form) -> None:
    """Write our own events from this level on, and warnings of the libraries under us."""
    each: tuple[Processor, ...] = (
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        with_trace,
        _without_texts,
    )
    colors = form == "console" and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    last: Processor = (
        structlog.dev.ConsoleRenderer(colors=colors) if form == "console" else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*each, last],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _first_line, *each],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)


def _without_texts(_: Any, __: str, event: Event) -> Event:
    """Put types and places of an exception in its place."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given is True else given
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_told(error, _MOST_CAUSES))
    return event


def _told(error: BaseException, causes: int) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and causes:
        yield from _told(cause, causes - 1)
        yield "then:"
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    code = f" ({error.code})" if isinstance(error, FabricError) else ""
    yield f"{type(error).__module__}.{type(error).__qualname__}{code}"
    if isinstance(error, BaseExceptionGroup) and causes:
        for one in error.exceptions[:_MOST_CAUSES]:
            yield "one of them:"
            yield from _told(one, causes - 1)


def _first_line(_: Any, __: str, event: Event) -> Event:
    """Leave out what asyncio says behind a sentence of its own: tasks, with what they have raised, text and all."""
    if event.get("logger") == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event
