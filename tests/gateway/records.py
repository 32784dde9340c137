"""Records for tests of rules, without a broker."""

from __future__ import annotations

import orjson
from session_fabric.words.events import TEXT_CONTENT, utf16_length
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import Record

SEGMENT = 1_764_000_000_000_000
PLACE = Place("default", "s1")


def record(
    sequence: int,
    type: str = "app.n",
    *,
    body: object = None,
    kind: Kind = "ev",
    name: str = "_",
    writer: str = "agent:writer",
    segment: int = SEGMENT,
    payload: bytes | None = None,
    ts_ms: int = 1_764_000_000_000,
    **headers: str,
) -> Record:
    fields = {"Nats-Msg-Id": f"x/e{sequence}", "Sf-Type": type, **headers}
    head = b"NATS/1.0" + b"".join(f"\r\n{key}: {value}".encode() for key, value in fields.items()) + b"\r\n\r\n"
    data = orjson.dumps({"type": type} if body is None else body) if payload is None else payload
    return Record(segment, sequence, 0, PLACE.stored(kind, name, writer), head, data, ts_ms)


def delta(
    sequence: int, text: str, at: int, *, message: str = "m1", run: str = "r1", type: str = TEXT_CONTENT
) -> Record:
    headers = {"Sf-Delta": f"{at} {message}"}
    return record(sequence, type, kind="tok", name=run, payload=orjson.dumps(text), **headers)


def answer(first: int, texts: list[str], *, message: str = "m1", run: str = "r1") -> list[Record]:
    """A message in deltas, one behind the other."""
    out, at = [], 0
    for number, text in enumerate(texts):
        out.append(delta(first + number, text, at, message=message, run=run))
        at += utf16_length(text)
    return out
