"""Logging of a library: through structlog as its user has configured it; warnings to stderr where he has not."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


class _Log:
    """Looks at each call whether structlog has been configured, so that importing us configures nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(structlog.get_logger() if structlog.is_configured() else _unconfigured(), name)


def _unconfigured() -> Any:
    """Return a logger of warnings to stderr: stdout belongs to the program that uses us."""
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )


log = _Log()
