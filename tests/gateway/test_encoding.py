"""Encoding: what readers get back is what is stored, in every form, and it is small."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.events import RUN_FINISHED, Event
from session_fabric.words.wire import Record, event_json
from session_fabric_gateway.encoding import Refs, Sight, encoded, events_payload, in_messages, pieces, seen, sse_bytes
from session_fabric_gateway.framing import op_frame, text_frame

from tests.gateway.records import answer, delta, record
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
