"""Which of a broker's nodes answer: asked each by itself, where the broker as a whole does nothing."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Final
from urllib.parse import urlsplit

from session_fabric_cli.diagnosis import Finding

_WITHIN_S: Final = 2.0
_FIX: Final = "Start it, or let it be reached: a cluster works with more than half of its nodes, two of three."


async def look(url: str) -> list[Finding]:
    """Ask each node that a broker's URL names; some seconds at most."""
    return list(await asyncio.gather(*(_node(part.strip()) for part in url.split(","))))


async def _node(url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 4222
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                # Only here does a node speak first, whatever it asks of clients.
                said = await reader.readline() if parts.scheme == "nats" else b""
            finally:
                writer.close()
    except TimeoutError:
        return Finding("fail", "node", f"{where} does not answer within {_WITHIN_S:g} s", _FIX)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number is not None and number > 0 else str(error)
        return Finding("fail", "node", f"{where} cannot be reached: {reason}", _FIX)
    return Finding("ok", "node", " ".join(filter(None, [_name(said), f"at {where} answers"])))


def _name(said: bytes) -> str:
    """Return what a node calls itself (INFO of the client protocol)."""
    kind, _, facts = said.partition(b" ")
    try:
        return str(json.loads(facts)["server_name"]) if kind == b"INFO" else ""
    except (ValueError, KeyError, TypeError):
        return ""
