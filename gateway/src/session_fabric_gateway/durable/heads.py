"""What requests for durable streams say in their heads and queries. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote

from multidict import MultiMapping
from session_fabric.rules.appends import MOST, Producer
from session_fabric.streams.records import place_of
from session_fabric.streams.wishes import Fork, Wish
from session_fabric.words.errors import InvalidOffset, InvalidRequest
from session_fabric.words.positions import Offset

# What browsers may send and read beyond what every path has.
SENT: Final = (
    *("If-None-Match", "Producer-Epoch", "Producer-Id", "Producer-Seq", "Stream-Closed", "Stream-Expires-At"),
    *("Stream-Fork-Offset", "Stream-Fork-Sub-Offset", "Stream-Forked-From", "Stream-Seq", "Stream-TTL"),
)
READ: Final = (
    *("ETag", "Location", "Producer-Epoch", "Producer-Expected-Seq", "Producer-Received-Seq", "Producer-Seq"),
    *("Stream-Closed", "Stream-Cursor", "Stream-Expires-At", "Stream-Next-Offset", "Stream-SSE-Data-Encoding"),
    *("Stream-TTL", "Stream-Up-To-Date"),
)

_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
# Ten years: what lives longer has no time to live.
_MOST_TTL_S: Final = 10 * 366 * 86_400
_MOST_TEXT: Final = 256
_MOST_OFFSET: Final = "9999999999999999_9999999999999999"

Headers = Mapping[str, str]
Live = Literal["long-poll", "sse"]


class Reading(NamedTuple):
    """What a GET asks for. `after` None: from now on."""

    after: Offset | None
    live: Live | None
    cursor: str | None


def closes(headers: Headers) -> bool:
    return headers.get("Stream-Closed", "").strip().lower() == "true"


def wish_of(headers: Headers, tenant: str, root: str, body: bytes | None) -> Wish:
    """Read what is to be made. `root`: the path under which streams are. Raises `InvalidRequest`, `InvalidOffset`."""
    ttl, expires = headers.get("Stream-TTL"), headers.get("Stream-Expires-At")
    if ttl is not None and expires is not None:
        raise InvalidRequest("Stream-TTL and Stream-Expires-At do not go together.", hint="Give one of them.")
    ttl_s = None if ttl is None else _number(ttl, "Stream-TTL", _MOST_TTL_S)
    return Wish(
        content_type=_text(headers, "Content-Type"),
        ttl_s=ttl_s,
        expires_at=expires,
        expires_ms=None if expires is None else _moment_ms(expires),
        body=body,
        closed=closes(headers),
        fork=_fork(headers, tenant, root),
    )


def _fork(headers: Headers, tenant: str, root: str) -> Fork | None:
    source, at, sub = (headers.get(f"Stream-Fork{name}") for name in ("ed-From", "-Offset", "-Sub-Offset"))
    if source is None:
        if at is not None or sub is not None:
            raise InvalidRequest("A fork's offset is given, and no Stream-Forked-From.", hint="Name the source too.")
        return None
    offset = None if at is None else _offset(at)
    number = 0 if sub is None else _number(sub, "Stream-Fork-Sub-Offset", MOST)
    if number and offset is None:
        raise InvalidRequest("Stream-Fork-Sub-Offset goes with Stream-Fork-Offset.", hint="Give both.")
    if not source.startswith(root):
        raise InvalidRequest(f"{source!r:.200} is not the path of a stream here.", hint=f"Use {root}<path>.")
    return Fork(place_of(tenant, unquote(source[len(root) :])), offset, number)


def matches(said: str, tag: str) -> bool:
    """Say whether `If-None-Match` names a tag; one that a proxy has made weak is it too (RFC 9110, section 13.1.2)."""
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in said.split(","))


def producer_of(headers: Headers) -> Producer | None:
    """Read who sends an append. Raises `InvalidRequest`."""
    id, epoch, seq = (headers.get(f"Producer-{name}") for name in ("Id", "Epoch", "Seq"))
    if id is None and epoch is None and seq is None:
        return None
    if id is None or epoch is None or seq is None:
        raise InvalidRequest("Producer-Id, Producer-Epoch and Producer-Seq go together.", hint="Give all, or none.")
    if not id.strip() or len(id.encode("utf-8", "surrogateescape")) > _MOST_TEXT or not id.isprintable():
        raise InvalidRequest("Producer-Id is empty, too long or unprintable.", hint=f"Use 1 to {_MOST_TEXT} bytes.")
    return Producer(id, _number(epoch, "Producer-Epoch", MOST), _number(seq, "Producer-Seq", MOST))


def seq_of(headers: Headers) -> str | None:
    """Read `Stream-Seq`. Raises `InvalidRequest`."""
    return _text(headers, "Stream-Seq") or None


def reading_of(query: MultiMapping[str]) -> Reading:
    """Read a GET's query; fields that are not known are others' business. Raises `InvalidRequest`, `InvalidOffset`."""
    offsets, live = query.getall("offset", []), query.get("live")
    if len(offsets) > 1:
        raise InvalidRequest("The query has offset twice.", field="offset")
    if live not in (None, "long-poll", "sse"):
        raise InvalidRequest(f"live is {live!r:.40}.", hint="Use long-poll or sse.", field="live")
    if live is not None and not offsets:
        raise InvalidRequest("live needs an offset.", hint="offset=-1 is the beginning, offset=now the end.")
    text = offsets[0] if offsets else "-1"
    after = None if text == "now" else Offset(0, 0) if text == "-1" else _offset(text)
    return Reading(after, "sse" if live == "sse" else None if live is None else "long-poll", query.get("cursor"))


def _offset(text: str) -> Offset:
    if text == _MOST_OFFSET:
        raise InvalidOffset("No stream is that long.", hint="Use an offset that the stream gave you.")
    return Offset.parse(text)


def _text(headers: Headers, name: str) -> str | None:
    value = headers.get(name)
    if value is not None and (len(value.encode("utf-8", "surrogateescape")) > _MOST_TEXT or not value.isprintable()):
        raise InvalidRequest(f"{name} is too long or unprintable.", hint=f"{_MOST_TEXT} bytes is the most.")
    return value


def _number(text: str, name: str, most: int) -> int:
    if _WHOLE.fullmatch(text) is None or int(text) > most:
        raise InvalidRequest(f"{name} is {text!r:.40}.", hint=f"Use a whole number from 0 to {most}.")
    return int(text)


def _moment_ms(text: str) -> int:
    try:
        if _TIME.fullmatch(text) is None:
            raise ValueError(text)
        return int(datetime.fromisoformat(text.upper()).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        wrong = f"Stream-Expires-At is {text!r:.60}."
        raise InvalidRequest(wrong, hint="Use a time as in 2030-01-02T03:04:05Z.") from error
