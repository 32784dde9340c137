"""The way to a broker for who looks its streams over and changes them; they need not be as they should."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from session_fabric.jetstream.operating import Operator

from session_fabric_cli.opening import check_operator, reach
from session_fabric_cli.options import Options
from session_fabric_cli.printing import one_line


@asynccontextmanager
async def operating(options: Options) -> AsyncIterator[Operator]:
    """Connect as one who changes streams; what is done goes to stderr, a line a step.

    Raises `Forbidden` for credentials that only let one ask.
    """
    at = reach(options)
    check_operator(at)

    def say(what: str) -> None:
        print(one_line(what, 400), file=sys.stderr)

    connected = Operator.connected(at.url, credentials=at.credentials, say=say, timeout_s=options.timeout_s)
    async with connected as operator:
        yield operator
