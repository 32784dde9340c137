"""What is said in passing: signals and read markers, from connection to connection, never stored in the log."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson
import structlog
from session_fabric import Fabric, Offset, Session
from session_fabric.words.errors import TooLarge
from session_fabric.words.names import escape

log = structlog.get_logger()

CURSORS: Final = "sf-cursors"
MOST_BYTES: Final = 64 * 1024


class Origin(NamedTuple):
    """Who says it, as verified, and through which connection: that one does not hear itself."""

    connection: str
    actor: str
    device: str


class Said(NamedTuple):
    """What others hear: the frame's op and fields."""

    connection: str
    op: str
    fields: dict[str, object]


async def send_signal(session: Session, origin: Origin, body: dict[str, Any]) -> None:
    """Send a signal to whoever has the session open. Raises `TooLarge`."""
    data = _spell("signal", origin, "body", body)
    if len(data) > MOST_BYTES:
        raise TooLarge(
            f"The signal has {len(data)} bytes; {MOST_BYTES} is the most.",
            hint="Signals are for what is soon forgotten: append an event.",
            limit=MOST_BYTES,
        )
    await session.signal(data)


async def set_cursor(fabric: Fabric, session: Session, origin: Origin, offset: Offset) -> None:
    """Keep how far a device has read, and tell the others."""
    key = f"{session.place.key()}.{escape(origin.actor)}.{escape(origin.device)}"
    await fabric.broker.bucket(CURSORS).put(key, orjson.dumps({"offset": str(offset)}))
    await session.signal(_spell("cursor", origin, "offset", str(offset)))


def _spell(op: str, origin: Origin, name: str, value: object) -> bytes:
    fields = {"actor": origin.actor, "device": origin.device, name: value}
    return orjson.dumps({"op": op, "connection": origin.connection, "fields": fields})


def heard(data: bytes) -> Said | None:
    """Read what another gateway (or this one) has sent; None for what is no such thing."""
    try:
        value = orjson.loads(data)
        op, fields = value["op"], value["fields"]
        if op not in ("signal", "cursor") or not isinstance(fields, dict):
            return None
        known = {key: fields[key] for key in ("actor", "device", "body" if op == "signal" else "offset")}
        return Said(str(value["connection"]), op, known)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        log.info("signal_unreadable", bytes=len(data))
        return None
