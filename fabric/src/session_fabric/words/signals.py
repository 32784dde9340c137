"""What is said in passing, from process to process, never stored: signals and moved read markers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson

from session_fabric.words.errors import InvalidRequest, TooLarge
from session_fabric.words.parsing import read_json
from session_fabric.words.positions import Offset

MOST_BYTES: Final = 64 * 1024

Op = Literal["signal", "cursor"]
# What each of them carries beside who says it.
_CARRIES: Final[Mapping[str, str]] = {"signal": "body", "cursor": "offset"}


class Origin(NamedTuple):
    """Who says it, and through which connection: that one does not hear itself."""

    connection: str
    actor: str
    device: str


class Said(NamedTuple):
    """What others hear: the op and the fields of a frame, `actor` and `device` among them."""

    connection: str
    op: Op
    fields: dict[str, Any]


class Signal(NamedTuple):
    """An ambient message: who sent it, from which device, and what it says."""

    actor: str
    device: str
    body: dict[str, Any]


def spell_signal(origin: Origin, body: Mapping[str, Any]) -> bytes:
    """Spell a signal. Raises `InvalidRequest` for what is no JSON object, `TooLarge`."""
    if not isinstance(body, Mapping):
        raise InvalidRequest(
            f"A signal is a JSON object; this one is {type(body).__name__}.", hint='For example {"type":"typing"}.'
        )
    try:
        data = _spell("signal", origin, dict(body))
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"The signal is not JSON: {error}.", hint="Use JSON values.") from error
    if len(data) > MOST_BYTES:
        raise TooLarge(
            f"The signal has {len(data)} bytes; {MOST_BYTES} is the most.",
            hint="Signals are for what is soon forgotten: append an event.",
            limit=MOST_BYTES,
        )
    return data


def spell_cursor(origin: Origin, offset: Offset) -> bytes:
    return _spell("cursor", origin, str(offset))


def _spell(op: Op, origin: Origin, value: object) -> bytes:
    fields = {"actor": origin.actor, "device": origin.device, _CARRIES[op]: value}
    return orjson.dumps({"op": op, "connection": origin.connection, "fields": fields})


def read(data: bytes) -> Said | None:
    """Read what somebody has sent; None for what is no such thing."""
    try:
        value = read_json(data)
        op, fields = value["op"], value["fields"]
        carried = fields[_CARRIES[op]]
        if not isinstance(carried, dict if op == "signal" else str):
            return None
        known = {"actor": str(fields["actor"]), "device": str(fields["device"]), _CARRIES[op]: carried}
        return Said(str(value["connection"]), op, known)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
