"""Encoding: what readers get back is what is stored, in every form, and it is small."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric.words.delivered import Delivered, Gathering
from session_fabric.words.events import RUN_FINISHED, Event
from session_fabric.words.wire import Record, event_json
from session_fabric_gateway.encoding import (
    Refs,
    Sight,
    View,
    encoded,
    events_payload,
    in_messages,
    pieces,
    seen,
    sse_bytes,
)
from session_fabric_gateway.framing import op_frame, text_frame

from tests.gateway.records import PLACE, SEGMENT, answer, delta, record
from tests.gateway.sockets import Expander


def as_sent(event: Event) -> dict[str, Any]:
    """Return an event as docs/protocol.md section 3 spells it."""
    named: dict[str, Any] = {"id": event.id} if event.at is None else {"at": event.at}
    fields = {"offset": str(event.offset), "type": event.type, "actor": event.actor, "run": event.run, "ts": event.ts}
    return fields | named | {"body": event.body}


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """A session's records: messages of two runs interleaved with milestones, and with pieces that are gone."""
    records: list[Record] = []
    at = {("r1", "m1"): 0, ("r1", "m2"): 0, ("r2", "m3"): 0}
    for sequence in range(1, draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(["delta", "delta", "delta", "event", "gone", "end", "user"]))
        run, message = draw(st.sampled_from(sorted(at)))
        if kind == "delta":
            text = draw(texts)
            records.append(delta(sequence, text, at[run, message], message=message, run=run))
            at[run, message] += len(text.encode("utf-16-le")) // 2
        elif kind == "gone":
            at[run, message] += draw(st.integers(0, 5))
        elif kind == "end":
            records.append(record(sequence, RUN_FINISHED, kind="own", name=run, **{"Sf-Run": run}))
        elif kind == "user":
            records.append(record(sequence, "message.user", writer="gw", **{"Sf-Actor": "user:ada"}))
        else:
            ts = 1_764_000_000_000 + draw(st.integers(0, 2))
            records.append(record(sequence, draw(st.sampled_from(["app.a", "app.b"])), ts_ms=ts))
    return records


_SERVERS = b"Nats-Stream: s\r\nNats-Subject: x\r\nNats-Sequence: 9\r\nNats-Time-Stamp: 2026-01-02T03:04:05.1Z\r\n\r\n"
_LINES = st.sampled_from(
    [
        b"Nats-Msg-Id: 0a1b/e1",
        b"Nats-Msg-Id: 0a1b/a/e1",
        b"Nats-Msg-Id: no id",
        b"Nats-Msg-Id: e2",
        b"Sf-Type: app.a",
        b"Sf-Type: app.b",
        b"Sf-Type: \xff",
        b"Sf-Actor: user:ada",
        b"Sf-Run: r1",
        b"Sf-Run: no run",
        b"Sf-From: 7",
        b"Nats-Expected-Last-Subject-Sequence: 2",
        b"Sf-At: 1764000000001",
        b"Sf-Delta: 0 m1",
        b"Sf-Blob: 12 abc n1",
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ]
)


_STAMPS = [b"1764000000123456789", b"5", b"2026-01-02T03:04:05Z", b"2026-01-02T03:04:05.12Z"]


@st.composite
def headed(draw: st.DrawFn) -> Record:
    """A record with headers in any order, some of them twice, from a consumer or by Direct Get."""
    lines = [b"Nats-Msg-Id: 0a1b/e1", b"Sf-Type: app.a"] if draw(st.booleans()) else []
    head = b"NATS/1.0\r\n" + b"".join(line + b"\r\n" for line in [*lines, *draw(st.lists(_LINES, max_size=5))])
    body = draw(st.sampled_from([b'{"type":"app.a"}', b'{"type":"app.b"}', b'"x"', b"7", b"\xff", b""]))
    writer = draw(st.sampled_from(["agent:writer", "gw", "im"]))
    subject = PLACE.stored(draw(st.sampled_from(["ev", "tok", "own"])), "r1", writer)
    if draw(st.booleans()):
        return Record(SEGMENT, 9, 0, subject, head + b"\r\n", body, draw(st.sampled_from(_STAMPS)))
    return Record(SEGMENT, 9, 0, subject, head + _SERVERS, body, own=len(head))


@given(st.lists(headed(), max_size=6))
def test_a_frame_is_the_same_whatever_of_it_events_have_in_common(records: list[Record]) -> None:
    events = [as_sent(event) for event in (record.event() for record in records)]
    again = [Record(r.segment, r.sequence, 0, r.subject, r.head, r.payload, r._ts, r.own) for r in records]
    assert expanded([events_payload(7, again)]) == events


def _of_a_delta(more: bytes = b"") -> Record:
    head = b"NATS/1.0\r\nNats-Msg-Id: 0a1b/e1\r\nSf-Type: TEXT_MESSAGE_CONTENT\r\nSf-Delta: 7 m1\r\n" + more
    return Record(SEGMENT, 9, 0, PLACE.stored("tok", "r1", "agent:a"), head + _SERVERS, b'"x"', own=len(head))


@given(headed())
@example(_of_a_delta())
@example(_of_a_delta(b"Sf-Delta: 9 m2\r\n"))
@example(_of_a_delta(b"Sf-Type: app.a\r\n"))
def test_type_and_delta_are_the_same_looked_for_together(record: Record) -> None:
    assert record.typed_delta == (None if record.delta is None else (record.type, record.delta))


# Each is no JSON, and several of them one behind the other are.
_TORN = [b'{"type":"app.a"', b'"n":1}', b'{"type":"app.a"},{"type":"app.a"}', b'"app.a"', b"[1", b"2]"]


def delivered(records: list[Record]) -> Delivered:
    """The same events as a consumer brings them."""
    gathering = Gathering()
    gathering.take(
        (r.subject.encode(), b"$JS.ACK.S.c.1.%d.%d.1764000000%09d.0" % (n, n, r.sequence), r.head, r.payload)
        for n, r in enumerate(records, 1)
    )
    return Delivered(SEGMENT, gathering.rows)


@st.composite
def stored(draw: st.DrawFn) -> list[Record]:
    """Events that have much in common with each other, and some that have not."""
    records: list[Record] = []
    for sequence in range(1, draw(st.integers(2, 8))):
        kind = draw(st.sampled_from(["plain", "plain", "plain", "user", "end", "other", "torn", "delta"]))
        if kind == "other":
            other = draw(headed())
            records.append(Record(SEGMENT, sequence, 0, other.subject, other.head, other.payload))
        elif kind == "torn":
            records.append(record(sequence, "app.a", payload=draw(st.sampled_from(_TORN))))
        elif kind == "user":
            records.append(record(sequence, "message.user", writer="gw", **{"Sf-Actor": "user:ada"}))
        elif kind == "end":
            records.append(record(sequence, RUN_FINISHED, kind="own", name="r1", **{"Sf-Run": "r1"}))
        elif kind == "delta":
            records.append(delta(sequence, "x", 0))
        else:
            records.append(record(sequence, draw(st.sampled_from(["app.a", "app.b"]))))
    return records


@given(stored())
@example([record(n, "app.a") for n in range(1, 4)])
@example([record(n, "app.a", payload=part) for n, part in enumerate(_TORN, 1)])
@example([record(1, "app.a"), record(2, "app.a", payload=_TORN[0]), record(3, "app.a", payload=_TORN[2])])
def test_what_a_consumer_brings_is_spelled_as_its_events_are(records: list[Record]) -> None:
    wanted = [as_sent(record.event()) for record in delivered(records)]
    assert expanded([events_payload(7, delivered(records))]) == wanted
    one_by_one = expanded(Refs(7).payloads(list(delivered(records))))
    assert expanded(Refs(7).payloads(delivered(records))) == one_by_one


@given(stored(), st.sampled_from(["full", "messages"]), st.booleans())
def test_of_what_a_consumer_brings_a_reader_sees_the_same(records: list[Record], view: View, everything: bool) -> None:
    sight = Sight(view, everything)
    together = [record.sequence for record in seen(delivered(records), sight)]
    assert together == [record.sequence for record in seen(list(delivered(records)), sight)]


def test_bodies_are_looked_at_together_where_headers_tell_the_rest() -> None:
    records = [record(n, "app.a" if n % 3 else "app.b") for n in range(1, 9)]
    assert delivered(records).ids == [b"e%d" % n for n in range(1, 9)]
    assert delivered([*records, record(9, "app.a", payload=b"7")]).ids is None
    assert delivered([*records, delta(9, "x", 0)]).ids is None
    foreign = Record(
        SEGMENT, 9, 0, records[0].subject, b"NATS/1.0\r\nA:b\r\nSf-Type: app.a\r\n\r\n", b'{"type":"app.a"}'
    )
    assert delivered([*records, foreign]).ids is None


def expanded(payloads: list[bytes]) -> list[dict[str, Any]]:
    expander = Expander()
    return [event for payload in payloads for event in expander.events(json.loads(payload))]


@given(logs())
def test_a_plain_frame_gives_back_every_event_whole(records: list[Record]) -> None:
    assert expanded([events_payload(7, records)]) == [as_sent(r.event()) for r in records]


@given(logs(), st.lists(st.integers(0, 40)))
def test_compact_frames_give_back_every_event_but_the_time_of_deltas(records: list[Record], cuts: list[int]) -> None:
    refs = Refs(7)
    payloads: list[bytes] = []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(records)], strict=True):
        payloads += refs.payloads(records[begin:end])
    wanted = [as_sent(r.event()) for r in records]
    for event in wanted:
        if "at" in event:
            del event["ts"]
    assert expanded(payloads) == wanted


@given(logs(), st.integers(0, 40))
def test_who_joins_a_compact_line_reads_on_with_the_announcements(records: list[Record], at: int) -> None:
    line = Refs(7)
    line.payloads(records[:at])
    joined = [*line.announcements(), *line.payloads(records[at:])]
    assert [e["offset"] for e in expanded(joined)] == [str(r.offset) for r in records[at:]]
    assert [e.get("at") for e in expanded(joined)] == [r.event().at for r in records[at:]]


def test_a_compact_delta_costs_at_most_thirty_bytes() -> None:
    payloads = Refs(999).payloads(answer(1_000_000_000, ["word "] * 1000))
    size = sum(map(len, payloads)) - 5 * 1000
    assert size / 1000 < 30


def test_a_plain_delta_costs_more_and_is_whole() -> None:
    payload = events_payload(1, answer(1, ["word "] * 100))
    assert payload.count(b'"actor"') == 1


def test_a_delta_that_is_no_json_text_is_shown_as_malformed() -> None:
    broken = [
        record(1, "TEXT_MESSAGE_CONTENT", kind="tok", name="r1", payload=b"\xff", **{"Sf-Delta": "0 m1"}),
        record(2, "TEXT_MESSAGE_CONTENT", kind="tok", name="r1", payload=b"7", **{"Sf-Delta": "0 m1"}),
        record(3, "app.other", kind="tok", name="r1", payload=b'"x"', **{"Sf-Delta": "0 m1"}),
        record(4, "TEXT_MESSAGE_CONTENT", kind="tok", name="r1", payload=b'"x"', **{"Sf-Delta": "x m1"}),
    ]
    bodies = [event["body"]["type"] for event in expanded(Refs(1).payloads(broken))]
    assert bodies == ["fabric.malformed"] * 4


def test_refs_are_bounded() -> None:
    refs = Refs(1)
    records = [delta(number, "x", 0, message=f"m{number}") for number in range(1, 500)]
    refs.payloads(records)
    assert len(refs.announcements()) == 64


def test_the_refs_of_an_ended_run_are_forgotten() -> None:
    refs = Refs(1)
    refs.payloads(answer(1, ["a", "b"]))
    assert len(refs.announcements()) == 1
    refs.payloads([record(3, RUN_FINISHED, kind="own", name="r1")])
    assert refs.announcements() == []


@given(logs())
def test_server_sent_events_are_one_block_each(records: list[Record]) -> None:
    blocks = sse_bytes(records).decode().split("\n\n")[:-1]
    found = []
    for block, one in zip(blocks, records, strict=True):
        id, *data = block.split("\n")
        assert id == f"id: {one.offset}"
        found.append(json.loads("\n".join(line.removeprefix("data: ") for line in data)))
    assert found == [json.loads(event_json(r)) for r in records]


def test_the_view_messages_keeps_what_messages_are_made_of() -> None:
    kept = ["message.user", "message.completed", "TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "CUSTOM", "app.x"]
    left = ["TOOL_CALL_ARGS", "tool.requested", "input.requested", "control.requested", "presence.joined", "whisper"]
    assert all(map(in_messages, kept))
    assert not any(map(in_messages, left))
    records = [record(1, "TOOL_CALL_START"), record(2, "message.user")]
    assert [r.sequence for r in seen(records, Sight("messages", everything=True))] == [2]
    assert encoded(1, "plain", None, []) == b""


@given(st.lists(st.integers(0, 5000)), st.integers(1, 10_000))
def test_pieces_join_to_the_whole(sizes: list[int], most: int) -> None:
    records = [record(number, payload=b"x" * size) for number, size in enumerate(sizes, 1)]
    cut = list(pieces(records, most))
    assert [r for piece in cut for r in piece] == records
    assert all(sum(len(r.payload) for r in piece[:-1]) < most for piece in cut)


@given(st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70000]))
def test_a_frame_says_its_length(size: int) -> None:
    frame = text_frame(b"x" * size)
    assert frame[0] == 0x81
    if size < 126:
        assert (frame[1], len(frame)) == (size, size + 2)
    elif size < 65536:
        assert (frame[1], int.from_bytes(frame[2:4], "big"), len(frame)) == (126, size, size + 4)
    else:
        assert (frame[1], int.from_bytes(frame[2:10], "big"), len(frame)) == (127, size, size + 10)


def test_fields_that_are_none_are_left_out_of_frames() -> None:
    assert orjson.loads(op_frame("pong", id=None)[2:]) == {"op": "pong"}
