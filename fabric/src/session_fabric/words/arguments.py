"""What callers hand over, looked at where it comes in: what is of another type fails there, and not deep within."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from session_fabric.words.errors import InvalidEvent, InvalidOffset, InvalidRequest
from session_fabric.words.positions import After, Offset


def check_text(value: object, what: str) -> str:
    """Return text, or raise `InvalidRequest`."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} is {_shown(value)}.", hint="Use text (str).")
    if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
        raise InvalidRequest(f"{what} is {_shown(value)}.", hint="Use what UTF-8 can say: half a character cannot.")
    return value


def check_whole(value: object, what: str, least: int, most: int) -> int:
    """Return a whole number between two (`3e4` is one too), or raise `InvalidRequest`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidRequest(
            f"{what} is {_shown(value)}.", hint=f"Use a whole number from {least} to {most}.", limit=most
        )
    return value


def check_seconds(value: object, what: str, most: float, *, least: float = 0.0) -> float:
    """Return seconds between two, or raise `InvalidRequest`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator]
        raise InvalidRequest(f"{what} is {_shown(value)}.", hint=f"Use {least:g} to {most:g} seconds.")
    return float(value)  # type: ignore[arg-type]


def check_choice(value: object, what: str, choices: Collection[str]) -> str:
    """Return one of a few words, or raise `InvalidRequest`."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidRequest(f"{what} is {_shown(value)}.", hint=f"Use {' or '.join(map(repr, choices))}.")
    return value


def check_mapping(value: object, what: str) -> Mapping[str, Any]:
    """Return an object, as JSON has it, or raise `InvalidRequest`."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{what} is {_shown(value)}.", hint="Use an object (a dict).")
    return value


def check_offset(value: object, what: str) -> Offset:
    """Return an offset, or raise `InvalidOffset`."""
    if not isinstance(value, Offset):
        hint = (
            "Use Offset.parse(…) of its text, or `event.offset`." if isinstance(value, str) else "Use `event.offset`."
        )
        raise InvalidOffset(f"{what} is {_shown(value)}, and no Offset.", hint=hint)
    return value


def check_after(value: object, *words: str, what: str = "after") -> After:
    """Return an offset or one of the words that stand for one, or raise `InvalidOffset`."""
    if isinstance(value, Offset) or (isinstance(value, str) and value in words):
        return value  # type: ignore[return-value]
    known = " or ".join(map(repr, words))
    hint = f"Use {known}, `event.offset`, or Offset.parse(…) of its text."
    raise InvalidOffset(f"{what} is {_shown(value)}, and no Offset.", hint=hint)


def check_json(value: object, what: str) -> bytes:
    """Return a value as JSON, or raise `InvalidEvent`."""
    try:
        return orjson.dumps(value, default=_as_dict)
    except orjson.JSONEncodeError as error:
        raise InvalidEvent(
            f"{what} is not JSON: {error}.",
            hint="Use what JSON can say: dict, list, str, int … Of a pydantic model: "
            '`model.model_dump(mode="json", by_alias=True, exclude_none=True)`.',
        ) from error


def _as_dict(value: object) -> dict[Any, Any]:
    """Return what orjson can spell of a mapping that is no dict."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _shown(value: object) -> str:
    return repr(value[:80]) if isinstance(value, str) else reprlib.repr(value)
