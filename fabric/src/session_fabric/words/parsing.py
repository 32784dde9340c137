"""Reads JSON that others wrote."""

from __future__ import annotations

from typing import Any, Final

import orjson

from session_fabric.words.errors import InvalidEvent

# What may stand at the beginning of JSON. Of what begins otherwise and is long, orjson makes a copy to say so.
_BEGINS: Final = b' \t\r\n{["-+0123456789tfn'
# orjson reads 1024 levels and writes these; what can be read alone could neither be passed on nor shown in an error.
MOST_LEVELS: Final = 254


class TooDeep(orjson.JSONDecodeError):
    """It is JSON, and has more than `MOST_LEVELS` levels."""

    def __str__(self) -> str:
        return f"it has more than {MOST_LEVELS} levels"


def read_json(data: bytes) -> Any:
    """Return a JSON value that can be spelled again. Raises `orjson.JSONDecodeError`."""
    begin = data[:1]
    value = orjson.loads(data if begin in _BEGINS or not begin.isascii() else begin)
    # Most has so few brackets that it need not be spelled to know that it can be.
    if _has_many_brackets(data):
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise TooDeep("too deep", "", 0) from error
    return value


def json_or_text(content: Any) -> Any:
    """Return what a text says where it is JSON; else what was given, as it is."""
    if not isinstance(content, str):
        return content
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content


def _has_many_brackets(data: bytes) -> bool:
    """Say whether there may be more than `MOST_LEVELS`; looked for one by one, a tenth of the time that counting takes
    where there are few in much."""
    left = MOST_LEVELS
    for bracket in (b"[", b"{"):
        at = data.find(bracket)
        while at >= 0:
            if not left:
                return True
            left -= 1
            at = data.find(bracket, at + 1)
    return False


def body_type(body: object) -> str:
    """Return a body's event type, or raise `InvalidEvent`."""
    kind = body.get("type") if isinstance(body, dict) else None
    if (
        not isinstance(kind, str)
        or not 0 < len(kind) <= 64
        or not kind.replace(".", "_").replace("-", "_").isidentifier()
    ):
        raise InvalidEvent(
            f"An event's body is a JSON object with a `type`; this one has {kind!r:.80}."
            if isinstance(body, dict)
            else f"An event's body is a JSON object; this one is {type(body).__name__}.",
            hint='For example {"type":"message.user","message":{"id":"m1","role":"user","content":"Hello"}}.',
        )
    return kind
