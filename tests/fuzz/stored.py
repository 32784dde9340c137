"""What stands in the broker, where strangers may have written: events, buckets' values, answers, sealed bodies."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson
from session_fabric import holdings, members, records
from session_fabric.jetstream.departures import departed
from session_fabric.ports import Entry
from session_fabric.rules import floor, seals, states
from session_fabric.rules.asked import RequestFold
from session_fabric.rules.controls import ControlFold
from session_fabric.rules.floor import FloorFold
from session_fabric.rules.fold import Fold
from session_fabric.rules.presence import Present
from session_fabric.rules.requests import expiry, is_due, parse_request, refusal, standing_of
from session_fabric.rules.revocations import Revoked, parse_revocation
from session_fabric.rules.seals import Cipher
from session_fabric.seen import _offset
from session_fabric.words import events
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place, parse_stored
from session_fabric.words.wire import Record, event_json
from session_fabric_gateway.encoding import Refs, Sight, events_payload, seen, sse_bytes

from tests.fuzz.asked import MESSAGE
from tests.fuzz.target import Target

_SEGMENT: Final = 1_760_000_000_000_000
# What the server puts behind a publisher's own headers when it gives a message out.
_SERVERS: Final = b"Nats-Stream: sf\r\nNats-Sequence: 9\r\nNats-Time-Stamp: 2026-01-02T03:04:05.123456789Z\r\n\r\n"
_SUBJECTS: Final = (
    "sf.tok.7.t.s.r1.agent=3Awriter",
    "sf.ev.7.t.s._.gw",
    "sf.own.7.t.s.r1.agent=3Awriter",
    "sf.in.7.t.s.default.user=3Aada",
    "sf.huh.7.t.s.=FF=.=ED=A0=80",
)


def record(data: bytes) -> None:
    """Read a stored event: headers, an empty line, a body; its first byte chooses the subject."""
    head, _, payload = data[1:].partition(b"\n\n")
    lines = head.replace(b"\n", b"\r\n")
    subject = _SUBJECTS[data[0] % len(_SUBJECTS) if data else 0]
    one = Record(_SEGMENT, 9, 0, subject, b"NATS/1.0\r\n" + lines + b"\r\n" + _SERVERS, payload)
    told = orjson.loads(event_json(one))
    assert told["body"]["type"] == told["type"]
    assert told["offset"] == f"{_SEGMENT:016d}_{9:016d}"
    assert told["ts"] == 1_767_323_045_123
    assert one.blob is None or one.blob.size >= 0
    repr(one)
    _in_frames([one], told)
    _as_sse([one], told)
    event = one.event()
    assert event.body == told["body"]
    _folded(event)


def _in_frames(batch: list[Record], told: dict[str, Any]) -> None:
    """What readers of frames get is what a page has."""
    frame = orjson.loads(events_payload(1, batch))
    assert frame["events"][0] == told
    assert len(seen(batch, Sight("full", True))) == 1
    seen(batch, Sight("messages", False))
    for payload in Refs(1).payloads(batch):
        compact = orjson.loads(payload)
        if isinstance(compact, list):
            assert compact[3] == told["body"]["delta"]
        else:
            assert compact["op"] in ("ref", "events")


def _as_sse(batch: list[Record], told: dict[str, Any]) -> None:
    """What an EventSource makes of it, line by line, is what a page has."""
    fields: dict[str, list[str]] = {}
    block, rest = sse_bytes(batch).decode().split("\n\n")
    assert rest == ""
    for line in block.replace("\r", "\n").split("\n"):
        name, colon, value = line.partition(":")
        assert colon, f"a line of no field: {line[:80]!r}"
        fields.setdefault(name, []).append(value.removeprefix(" "))
    assert fields.keys() == {"id", "data"}
    assert fields["id"] == [told["offset"]]
    assert orjson.loads("\n".join(fields["data"])) == told


def _folded(event: Event) -> None:
    """Fold one event as everything that folds; twice is as once, and what comes out can be told."""
    fold, asked, controls, floors, present = Fold(), RequestFold(), ControlFold(), FloorFold(), Present()
    for each in (fold, asked, controls, floors, present):
        each.add(event)
    _tell(fold, asked, controls, floors, present)
    once = repr((fold.messages(), fold.runs))
    fold.add(event)
    assert repr((fold.messages(), fold.runs)) == once


def _tell(fold: Fold, asked: RequestFold, controls: ControlFold, floors: FloorFold, present: Present) -> None:
    plain = [one.plain() for one in (*fold.messages(), *fold.path(), *fold.runs.values(), *asked.all())]
    pools = [(floors.state(pool).plain(), [o.plain() for o in floors.offers(pool)]) for pool in floors.pools()]
    # Not orjson: a body may hold 254 levels, and what is around it more.
    json.dumps([plain, [repr(one) for one in controls.all()], pools, present.members()], default=str)


_TYPES: Final = sorted({value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)})


def told(data: bytes) -> None:
    """Fold events that all have types of the fabric's own and of AG-UI's, with bodies of a stranger: one a line."""
    fold, asked, controls, floors, present = Fold(), RequestFold(), ControlFold(), FloorFold(), Present()
    for number, line in enumerate(data.split(b"\n")[:40], 1):
        kind, _, raw = line.partition(b" ")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        if not isinstance(body, dict):
            continue
        type = kind.decode("utf-8", "replace")
        run = body.get("run") if isinstance(body.get("run"), str) else None
        raw = json.dumps({**body, "type": type}).encode()
        event = Event(Offset(_SEGMENT, number), f"e{number}", type, "user:ada", run, 1_760_000_000_000 + number, raw)
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        for each in (fold, asked, controls, floors, present):
            each.add(event)
        request = parse_request(event)
        standing = standing_of(event)
        if request is not None:
            request.public()
            refusal(request, standing, "user:ada", "d1", 1_760_000_000_000)
            if is_due(request, 2**53):
                expiry(request, "deadline", "service:gateway")
        floor.read("default", number, body)
    _tell(fold, asked, controls, floors, present)


def entries(data: bytes) -> None:
    """Read a bucket's value as that of every bucket."""
    places = ("t.s", "t.s.a.b", "h.t.s.run.r1", "t.token.x", "t.session.=FF", "t", "", "....", "t.s.=ED=A0=80.d")
    for key in places:
        entry = Entry(key, data, 1)
        held = holdings._read(entry)
        assert held is None or isinstance(held.facts, dict)
        _offset(entry)
        revocation = parse_revocation(key, data)
        if revocation is not None:
            revoked = Revoked()
            revoked.put(revocation)
            revoked.covers("t", "user:ada", "x", 0)
            revoked.drop(revocation.key)
        if key.count(".") >= 1:
            kept = members.read(entry)
            assert kept is None or kept.member.device is not None
    found = records.parse(data)
    if found is not None:
        json.dumps(found.public())
        assert records.parse(found.model_dump_json().encode()) == found
    state = states.read("plan", 3, data)
    if state.body is not None:
        assert states.read("plan", 3, states.spell(state.body, state.by or "", state.ts or 0)).body == state.body
    departed(data)


_CIPHER: Final = Cipher(b"k" * 32)


def sealed(data: bytes) -> None:
    """Open what nobody has sealed, and what somebody did and somebody else has changed."""
    bound = seals.bound_of("t", "s", "ev", "_", "app.x")
    assert _CIPHER.open(data, bound) is None
    assert _CIPHER.open_value(b"\x01" + data, bound) is None
    made = _CIPHER.seal(data, bound)
    assert _CIPHER.open(made, bound) == data
    assert _CIPHER.open(made, bound + b"x") is None
    assert _CIPHER.open(made[:-1] + bytes([made[-1] ^ 1]), bound) is None
    assert _CIPHER.open_value(_CIPHER.seal_value(data, bound), bound) == data
    assert seals.unwrap(data, b"u" * 32) is None


def subject(data: bytes) -> None:
    """Take a subject apart as the log's readers do."""
    text = data.decode("utf-8", "replace")
    try:
        parts = parse_stored(text)
    except ValueError:
        return
    spelled = Place(parts.tenant, parts.session).stored(parts.kind, parts.name, parts.writer)
    assert parse_stored(spelled) == parts


def _line(type: str, **body: Any) -> bytes:
    return type.encode() + b" " + orjson.dumps(body)


def _stored(subject: int, body: Any, **headers: str) -> bytes:
    lines = "\n".join(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())
    return bytes([subject]) + lines.encode() + b"\n\n" + orjson.dumps(body)


_SAID: Final = (
    _line("message.user", **{k: v for k, v in MESSAGE.items() if k != "type"}, parent=None, pool="default"),
    _line("RUN_STARTED", run="r1", runId="r1", message="m1", input="e1"),
    _line("TEXT_MESSAGE_START", run="r1", messageId="m2", role="assistant"),
    _line("TEXT_MESSAGE_CONTENT", run="r1", messageId="m2", delta="Hi"),
    _line("REASONING_MESSAGE_CONTENT", run="r1", messageId="m2", delta="Hm"),
    _line("TOOL_CALL_START", run="r1", toolCallId="c1", toolCallName="search", parentMessageId="m2"),
    _line("TOOL_CALL_ARGS", run="r1", toolCallId="c1", delta="{}"),
    _line("TOOL_CALL_RESULT", run="r1", toolCallId="c1", messageId="m3", content="found"),
    _line("message.completed", run="r1", message={"id": "m2", "content": "Hi", "toolCalls": [{"id": "c1"}]}),
    _line("message.snapshot", run="r1", message={"id": "m2", "content": "Hi"}, messageId="m2", text="Hi", at=0),
    _line("STEP_STARTED", run="r1", stepName="a", supersedes=["m2"], attempt=2),
    _line("control.requested", run="r1", action="cancel", deadline_ms=100),
    _line("control.accepted", run="r1", request="e11"),
    _line("tool.requested", run="r1", tool="pick", args={}, to="user:ada", deadline_ms=5),
    _line("input.requested", run="r1", kind="choice", title="t", options=["a"], to=None, default="a", deadline_ms=5),
    _line("input.answered", run="r1", request="e14", by="user:ada", body="a", defaulted=True),
    _line("tool.claimed", run="r1", request="e13", until=5, device="d1"),
    _line("floor.claimed", pool="default", floor={"participant": "agent:a", "holder": "h", "generation": 1}),
    _line("handoff.offered", pool="default", to="role:operator", note="n", deadline_ms=5, floor=18),
    _line("presence.joined", participant="user:ada", device="d1", data={}, status="idle"),
    _line("presence.left", participant="user:ada", device="d1"),
    _line("branch.selected", message="m1"),
    _line("message.regenerate", message="m1"),
    _line("message.rejected", message="m1", input="e1", reason="busy"),
    _line("RUN_ERROR", run="r1", message="x", code="y"),
    _line("RUN_FINISHED", run="r1"),
)

_RECORD: Final = {
    "tenant": "t", "session": "s", "created": 1, "state": "open", "labels": {"a": "b"}, "source": None, "forks": ["f"],
    "segments": [{"id": 5, "stream": "sf", "epoch": "e", "tenant": "t", "session": "s"}], "floor": [0, 0],
    "policy": {"when_busy": "queue"}, "participants": ["user:ada"], "sealed": None,
}  # fmt: skip

TARGETS: Final[tuple[Target, ...]] = (
    Target(
        "record",
        record,
        [_stored(0, "text", Nats_Msg_Id="0a/e1", Sf_Type="TEXT_MESSAGE_CONTENT", Sf_Delta="12 m1"),
         _stored(1, {"type": "app.x", "n": 1}, Nats_Msg_Id="0a/e1", Sf_Type="app.x", Sf_Actor="user:ada", Sf_Run="r1"),
         _stored(2, {"type": "RUN_FINISHED"}, Sf_Type="RUN_FINISHED", Sf_Run="r1", Sf_Blob="12 abc n1", Sf_Sealed="1"),
         _stored(3, MESSAGE, Nats_Msg_Id="0a/e1", Sf_Type="message.user"), _stored(4, {}, Sf_Type="x")],
    ),
    Target("told", told, [b"\n".join(_SAID), *_SAID]),
    Target(
        "entries",
        entries,
        [orjson.dumps(_RECORD), orjson.dumps({"by": "user:ada", "ts": 1, "body": {"a": 1}}),
         orjson.dumps({"participant": "user:ada", "device": "d", "data": {}, "since": 1, "at": 1, "status": "idle"}),
         orjson.dumps({"offset": "0001760000000000_0000000000000042"}), orjson.dumps({"before_ms": 1, "until_ms": 2}),
         orjson.dumps({"agent": "agent:a", "pool": "p"}),
         orjson.dumps({"client": {"name": "agent " + "a" * 20}, "reason": "Client Closed"})],
    ),
    Target("sealed", sealed, [b"", b"x", _CIPHER.seal(b"{}", b"b"), seals.wrap(b"k" * 32, b"w" * 32)]),
    Target("subject", subject, [s.encode() for s in _SUBJECTS]),
)  # fmt: skip
