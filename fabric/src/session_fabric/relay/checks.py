"""What is refused of a request whoever makes it: what would be spelled as more than itself at the broker."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from session_fabric.history import SNAPSHOT_FROM
from session_fabric.ports import Guard
from session_fabric.words.errors import InvalidEvent, InvalidName, InvalidRequest
from session_fabric.words.events import DELTA_KEYS, Draft
from session_fabric.words.names import check_id, escape, unescape
from session_fabric.words.parsing import body_type
from session_fabric.words.traces import PARENT, PARENTS, STATE, STATES
from session_fabric.words.wire import SEALED

_MOST_KEY: Final = 1000
_MOST_NAME: Final = 200
_NOTHING: Final = re.compile(r"(?!)")
# What an event may carry beside its body: that it is sealed, from where on a snapshot says what was said, its trace.
_HEADERS: Final = {
    SEALED: re.compile("1"),
    SNAPSHOT_FROM: re.compile("[0-9]{1,15}"),
    PARENT: PARENTS,
    STATE: STATES,
}


def check_spelling(draft: Draft, guard: Guard | None) -> None:
    """Raise `InvalidEvent`, `InvalidName` for what would be spelled as more than itself among headers and subjects."""
    body_type({"type": draft.type})
    check_id(draft.id, "event id")
    if draft.run is not None:
        check_id(draft.run, "run")
    if draft.delta is not None:
        check_id(draft.delta.message, "message id")
    if draft.delta is not None and (draft.kind != "tok" or draft.type not in DELTA_KEYS):
        raise InvalidEvent(f"{draft.type!r} is no delta.", hint="Use the SDK.")
    if not all(_HEADERS.get(name, _NOTHING).fullmatch(value) for name, value in draft.headers.items()):
        raise InvalidEvent("An event brings headers of its own.", hint="Use the SDK.")
    for name in (draft.name, *([] if guard is None else [guard.name])):
        if not 0 < len(name) <= _MOST_NAME:
            raise InvalidEvent(f"An event is kept under {len(name)} characters.", hint="Use the SDK.")


def tokens_of(key: str) -> list[str]:
    """Take a key apart. Raises `InvalidName` for what is none."""
    tokens = key.split(".")
    if len(key) > _MOST_KEY or not all(tokens):
        raise InvalidName(f"{key[:60]!r} is no key.", hint="Use the SDK.")
    try:
        found = [unescape(token) for token in tokens]
    except ValueError as error:
        raise InvalidName(f"{key[:60]!r} is no key.", hint="Use the SDK.") from error
    # One spelling a name: another's entry is not to be had under a second one, nor a wildcard.
    if [escape(name) for name in found] != tokens:
        raise InvalidName(f"{key[:60]!r} is no key.", hint="Use the SDK.")
    return found


def object_of(value: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(value)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        raise InvalidRequest("A value is no JSON object.", hint="Use the SDK.")
    return told
