"""Bytes of WebSocket frames from the gateway, unmasked and uncompressed (RFC 6455 section 5.2), and of SSE."""

from __future__ import annotations

from typing import Any, Final

import orjson

PING: Final = b"\x89\x00"


def text_frame(payload: bytes) -> bytes:
    """Frame one text message. Made once, whoever gets it."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def op_frame(op: str, /, **fields: Any) -> bytes:
    """Frame a JSON object with an `op`; fields that are None are left out."""
    return text_frame(orjson.dumps({"op": op, **{key: value for key, value in fields.items() if value is not None}}))


def sse_block(event: str, /, **fields: Any) -> bytes:
    """Spell one named server-sent event (WHATWG HTML, "Server-sent events")."""
    data = orjson.dumps({"op": event, **fields})
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
