"""What a shell is told at <TAB> of things at the broker: soon, not too many, and nothing where it cannot be had."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any, Final

from session_fabric import Fabric, logs

from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, gather

# Somebody holds a key down and waits: what has been found until then is told.
_PATIENCE_S: Final = 1.0
_MOST: Final = 50
_LOOKED: Final = 20_000


def session_names(given: dict[str, Any], begun: str) -> list[str]:
    """Return names of sessions that begin so, those first whose records changed last: at most 50.

    `given`: the options on the line. Among the 20,000 that changed last, within a second.
    """
    return _found(given, lambda fabric: _sessions(fabric, begun))


def document_names(given: dict[str, Any], begun: str) -> list[str]:
    """Return names of the documents of the session on the line that begin so."""
    session = given.get("name")
    return [] if not session else _found(given, lambda fabric: _documents(fabric, session, begun))


async def _sessions(fabric: Fabric, begun: str) -> AsyncIterator[str]:
    looked, cursor = 0, None
    while looked < _LOOKED:
        page = await fabric.sessions(limit=1000, cursor=cursor)
        for record in page.records:
            if record.session.startswith(begun):
                yield record.session
        looked, cursor = looked + page.looked, page.next
        if cursor is None:
            return


async def _documents(fabric: Fabric, session: str, begun: str) -> AsyncIterator[str]:
    for state in await fabric.session(session).documents():
        if state.document.startswith(begun):
            yield state.document
    for name in ("_seen", "_tools"):
        if begun and name.startswith(begun):
            yield name


def _found(given: dict[str, Any], names: Callable[[Fabric], AsyncIterator[str]]) -> list[str]:
    found: dict[str, None] = {}  # a session that changes meanwhile may come again
    logging.disable(logging.CRITICAL)
    logs.to_stderr("critical", "json")
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        try:
            asyncio.run(_gather(_options(given), names, found))
        except Exception:
            # Whatever is wrong, a line that is being typed is no place to say it; the command itself will.
            return list(found)
    return list(found)


async def _gather(options: Options, names: Callable[[Fabric], AsyncIterator[str]], found: dict[str, None]) -> None:
    async with asyncio.timeout(_PATIENCE_S), opened(options) as fabric:
        async for name in names(fabric):
            if name.isprintable():
                found[name] = None
            if len(found) == _MOST:
                return


def _options(given: dict[str, Any]) -> Options:
    options = gather(given.get("context"), given.get("nats"), given.get("tenant"))
    return replace(options, timeout_s=_PATIENCE_S)
