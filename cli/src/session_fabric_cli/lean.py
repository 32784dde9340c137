"""Starts without what others take along only because it is installed.

structlog has rich imported for tracebacks that we do not print, nats-py aiohttp for WebSocket: a third of a second.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

_ALONG: Final = (("structlog", "rich"), ("nats.aio.client", "aiohttp"))


def prepare() -> None:
    """Import both without; whoever needs the others imports them later as ever."""
    for library, along in _ALONG:
        if library in sys.modules or along in sys.modules:
            continue
        sys.modules[along] = None  # type: ignore[assignment]  # as the import system spells: not to be had
        try:
            import_module(library)
        finally:
            del sys.modules[along]


def with_websocket() -> None:
    """Let nats-py speak WebSocket after all, to a broker whose URL says so."""
    from nats.aio import transport

    transport.aiohttp = import_module("aiohttp")  # type: ignore[attr-defined]
