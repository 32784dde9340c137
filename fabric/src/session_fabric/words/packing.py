"""How those who may not ask the broker ask the fabric: one JSON head, and byte strings behind it, in one message.

<4 bytes: length of the head, big-endian> <head: JSON [value, [lengths of the byte strings]]> <byte strings>
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from session_fabric.words.errors import FabricError, InvalidRequest

# A quarter below the broker's default max_payload of 1 MiB: what surrounds a message still fits.
MOST_BYTES: Final = 768 * 1024
_SIZE: Final = 4
_PLAIN: Final = (str, int, float, bool)


def pack(head: object, blobs: Sequence[bytes] = ()) -> bytes:
    told = orjson.dumps([head, [len(blob) for blob in blobs]])
    return b"".join((len(told).to_bytes(_SIZE, "big"), told, *blobs))


def unpack(data: bytes) -> tuple[Any, list[bytes]]:
    """Take a message apart. Raises `InvalidRequest` for what is none."""
    end = _SIZE + int.from_bytes(data[:_SIZE], "big")
    try:
        head, lengths = orjson.loads(data[_SIZE:end])
        blobs, at = [], end
        for length in lengths:
            if type(length) is not int or length < 0:
                raise ValueError(length)
            blobs.append(data[at : at + length])
            at += length
    except (ValueError, TypeError) as error:
        raise InvalidRequest("This is no request of the fabric's.", hint="Use the SDK.") from error
    if at != len(data):
        raise InvalidRequest(f"A request has {len(data)} bytes, and says {at}.", hint="Use the SDK.")
    return head, blobs


def pack_error(error: FabricError) -> bytes:
    facts = {
        name: value for name, value in error.facts.items() if isinstance(value, (str, int, float, bool, None.__class__))
    }
    return pack({"error": error.code, "message": error.message, "hint": error.hint, "facts": facts})


def error_of(head: Any) -> FabricError | None:
    """Return the error that an answer tells of, of its own class; None where it is none."""
    if not isinstance(head, dict) or "error" not in head:
        return None
    kind = _classes(FabricError).get(str(head["error"]), FabricError)
    return kind(str(head.get("message")), hint=str(head.get("hint")), **dict(head.get("facts") or {}))


def _classes(kind: type[FabricError]) -> dict[str, type[FabricError]]:
    found: dict[str, type[FabricError]] = {}
    for below in kind.__subclasses__():
        found |= _classes(below)
        if "code" in vars(below):
            found.setdefault(below.code, below)
    return found
