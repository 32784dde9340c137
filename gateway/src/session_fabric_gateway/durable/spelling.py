"""How what a durable stream holds is spelled in answers: arrays, server-sent events, tags and cursors. Pure."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Sequence
from typing import Final, Literal

import orjson
from session_fabric.rules.appends import JSON, Standing, media_type
from session_fabric.words.errors import InvalidEvent
from session_fabric.words.positions import Offset

Form = Literal["json", "text", "bytes"]

# Cursors count 20 s from 2024-10-09 on, and jump by up to an hour where two would be alike (protocol, section 10.1).
_CURSOR_S: Final = 20
_CURSOR_FROM_S: Final = 1_728_432_000
_JUMP_S: Final = 3600
_LINES: Final = re.compile(rb"\r\n|\r|\n")


def form_of(content_type: str) -> Form:
    media = media_type(content_type)
    return "json" if media == JSON else "text" if media.startswith("text/") else "bytes"


def inner_json(body: bytes, *, may_be_empty: bool) -> bytes:
    """Return the messages of a JSON body as they stand in an array: a body that is one is taken out of it.

    Raises `InvalidEvent` for what is no JSON, and for an empty array unless it may be.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidEvent(f"The body is not JSON: {error}.", hint="The stream's content type is JSON.") from error
    inner = body.strip()
    if not isinstance(value, list):
        return inner
    if not value and not may_be_empty:
        raise InvalidEvent("The body is an empty array: it appends nothing.", hint="Send one message or more.")
    return inner[1:-1].strip() if value else b""


def joined(form: Form, payloads: Sequence[bytes]) -> bytes:
    """Return the body of an answer with these entries."""
    return b"[%b]" % b",".join(payloads) if form == "json" else b"".join(payloads)


def data_event(form: Form, payloads: Sequence[bytes]) -> bytes:
    """Spell entries as one server-sent event; nothing where there are none."""
    if not payloads:
        return b""
    data = joined(form, payloads)
    if form == "bytes":
        return b"event: data\ndata:%b\n\n" % base64.b64encode(data)
    if form == "text":
        data = data.decode("utf-8", "replace").encode()
    # A reader takes one space away behind the colon, so that a line that begins with one gets another.
    lines = _LINES.sub(b"\ndata:", b"\n" + data).replace(b"\ndata: ", b"\ndata:  ")
    return b"event: data%b\n\n" % lines


def control_event(next: Offset, *, end: bool, closed: bool, cursor: str) -> bytes:
    """Spell what follows each data event. `end`: nothing is behind `next` for now; `closed`: nor will be."""
    fields: dict[str, object] = {"streamNextOffset": str(next)}
    if not closed:
        fields["streamCursor"] = cursor
    if end:
        fields["upToDate"] = True
    if closed:
        fields["streamClosed"] = True
    return b"event: control\ndata:%b\n\n" % orjson.dumps(fields)


def tag(life: int, after: Offset, next: Offset, *, closed: bool) -> str:
    return f'"{life}:{after}:{next}{":c" if closed else ""}"'


def cursor(now_s: float, said: str | None) -> str:
    """Return the cursor of an answer, above the one that a client has said."""
    current = int(now_s - _CURSOR_FROM_S) // _CURSOR_S
    if said is not None and said.isascii() and said.isdigit() and len(said) < 18 and int(said) >= current:
        return str(int(said) + max(1, random.randint(1, _JUMP_S) // _CURSOR_S))
    return str(current)


def answer_headers(standing: Standing, next: Offset, *, end: bool) -> dict[str, str]:
    """Return what each answer to a read says of the stream."""
    headers = {"Stream-Next-Offset": str(next)}
    if end:
        headers["Stream-Up-To-Date"] = "true"
        if standing.closed:
            headers["Stream-Closed"] = "true"
    return headers
