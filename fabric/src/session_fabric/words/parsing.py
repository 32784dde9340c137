"""Reads JSON that others wrote."""

from __future__ import annotations

from typing import Any, Final

import orjson

# orjson reads 1024 levels and writes these; what can be read alone could neither be passed on nor shown in an error.
MOST_LEVELS: Final = 254


class TooDeep(orjson.JSONDecodeError):
    """It is JSON, and has more than `MOST_LEVELS` levels."""

    def __str__(self) -> str:
        return f"it has more than {MOST_LEVELS} levels"


def read_json(data: bytes) -> Any:
    """Return a JSON value that can be spelled again. Raises `orjson.JSONDecodeError`."""
    value = orjson.loads(data)
    # Most has so few brackets that it need not be spelled to know that it can be.
    if data.count(b"[") + data.count(b"{") > MOST_LEVELS:
        try:
            orjson.dumps(value)
        except orjson.JSONEncodeError as error:
            raise TooDeep("too deep", "", 0) from error
    return value
