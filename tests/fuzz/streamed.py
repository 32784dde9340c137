"""What comes of durable streams' clients in heads and queries, and what native agents ask, packed."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from multidict import CIMultiDict, MultiDict
from session_fabric import spelling
from session_fabric.relay.checks import check_spelling, object_of, tokens_of
from session_fabric.words.packing import error_of, pack, unpack
from session_fabric_gateway.durable import heads
from session_fabric_gateway.durable.spelling import cursor, form_of, inner_json

from tests.fuzz.target import Target, refused_by_code, text_of

OFFSET: Final = b"0000000000000001_0000000000000002"
_ROOT: Final = "/v1/stream/"


def stream_headers(data: bytes) -> None:
    """Read lines of `Name: value` as a stream's client might send them, with what follows an empty line as the body."""
    lines, _, body = data.partition(b"\n\n")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines.split(b"\n"):
        name, _, value = text_of(line).partition(": ")
        headers[name] = value
    with refused_by_code():
        wish = heads.wish_of(headers, "t1", _ROOT, body or None)
        assert wish.ttl_s is None or wish.ttl_s >= 0
    with refused_by_code():
        heads.producer_of(headers)
    with refused_by_code():
        heads.seq_of(headers)
    heads.closes(headers)
    heads.matches(headers.get("If-None-Match", ""), '"tag"')
    with refused_by_code():
        if form_of(headers.get("Content-Type", "")) == "json":
            inner_json(body, may_be_empty=True)


def stream_query(data: bytes) -> None:
    try:
        query = MultiDict(parse_qsl(text_of(data), keep_blank_values=True))
    except ValueError:
        return  # more fields than anybody reads
    with refused_by_code():
        asked = heads.reading_of(query)
        cursor(0.0, asked.cursor)


def packed(data: bytes) -> None:
    """Read a native agent's request, and its head as each kind of thing that heads tell of."""
    with refused_by_code():
        head, blobs = unpack(data)
        assert unpack(pack(head, blobs)) == (head, blobs)
        error_of(head)
        read: dict[str, Any] = head if isinstance(head, dict) else {}
        for name, parse in (
            ("to", spelling.read_stretch),
            ("place", spelling.read_place),
            ("wanted", spelling.read_wanted),
            ("guard", spelling.read_guard),
        ):
            if name in read:
                with refused_by_code():
                    parse(read[name])
        if "key" in read and isinstance(read["key"], str):
            with refused_by_code():
                tokens_of(read["key"])
        for blob in blobs:
            with refused_by_code():
                object_of(blob)
        if "draft" in read:
            draft = spelling.read_draft(read["draft"], blobs[0] if blobs else b"")
            check_spelling(draft, None)


_DRAFT: Final = {
    "type": "app.note",
    "id": "e1",
    "kind": "ev",
    "name": "_",
    "actor": "agent:a",
    "writer": "agent:a",
    "run": "r1",
    "delta": None,
    "headers": {"Sf-Sealed": "1"},
}

TARGETS: Final = (
    Target(
        "stream-headers",
        stream_headers,
        [
            b"Content-Type: application/json\nStream-TTL: 60\n\n[1,2]",
            b"Content-Type: text/plain\nStream-Expires-At: 2026-11-29T10:00:00Z\nStream-Closed: true\n\nx",
            b"Stream-Forked-From: /v1/stream/a%20b\nStream-Fork-Offset: " + OFFSET + b"\nStream-Fork-Sub-Offset: 3",
            b'Producer-Id: p\nProducer-Epoch: 1\nProducer-Seq: 0\nStream-Seq: a\nIf-None-Match: W/"tag", *',
        ],
    ),
    Target(
        "stream-query",
        stream_query,
        [b"offset=-1&live=sse", b"offset=now&live=long-poll&cursor=123", b"offset=" + OFFSET, b"offset=1&offset=2"],
    ),
    Target(
        "packed",
        packed,
        [
            pack(
                {
                    "to": ["SESSIONS-00", "e", "t", "s", 1],
                    "via": "s",
                    "after": 0,
                    "upto": 9,
                    "wanted": [["in", None, 0]],
                }
            ),
            pack({"draft": _DRAFT, "guard": ["own", "x", 3], "place": ["t", "s"]}, [orjson.dumps({"a": 1})]),
            pack({"bucket": "sf-state", "key": "t1.s1.plan", "revision": 4}, [b"{}", b""]),
            pack({"error": "forbidden", "message": "no", "hint": "", "facts": {"session": "s"}}),
        ],
    ),
)
