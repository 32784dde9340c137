"""What clients say: frames, bodies, queries, offsets, names, addresses, origins."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import orjson
from pydantic import BaseModel
from session_fabric.rules.holds import check_name
from session_fabric.rules.inputs import check_input
from session_fabric.rules.policy import parse_policy
from session_fabric.rules.presence import check_data, check_status
from session_fabric.rules.questions import check_answer, check_question
from session_fabric.rules.retention import changed
from session_fabric.rules.routing import authorize, destination
from session_fabric.rules.states import check_body, check_document, check_revision
from session_fabric.words import names
from session_fabric.words.parsing import read_json
from session_fabric.words.positions import Offset, parse_after
from session_fabric.words.signals import Origin, spell_signal
from session_fabric.words.signals import read as read_signal
from session_fabric.words.subjects import Place, parse_stored
from session_fabric.writer import parse_body
from session_fabric_gateway import operations
from session_fabric_gateway.addresses import UNKNOWN, client_of, parse_address
from session_fabric_gateway.capabilities.registry import CAPABILITIES
from session_fabric_gateway.http import number, query_of
from session_fabric_gateway.operations import NewSession, PostedControl, PostedEvent, PostedFork, Unreadable
from session_fabric_gateway.origins import host_name, may_use, parse_origin
from session_fabric_gateway.reading import _asked
from session_fabric_gateway.requests import MODELS

from tests.fuzz.target import Target, refused_by_code, request_of, text_of

OFFSET: Final = "0001760000000000_0000000000000042"
MESSAGE: Final = {"type": "message.user", "message": {"id": "m1", "role": "user", "content": "Hello"}}


def _frame(op: str, **fields: Any) -> bytes:
    return orjson.dumps({"op": op, "id": 7, "session": "chat-1", **fields})


FRAMES: Final = (
    orjson.dumps({"op": "hello", "token": "a.b.c", "device": "d1", "client": "test/1", "deltas": "compact"}),
    orjson.dumps({"op": "ping", "id": 1}),
    orjson.dumps({"op": "close", "id": 2, "sub": 1}),
    orjson.dumps({"op": "refresh", "id": 3, "token": "a.b.c"}),
    _frame("open", after=OFFSET, view="messages", presence={"name": "Ada"}),
    _frame("open", after="tail"),
    _frame("append", event={"id": "e1", "body": MESSAGE}, since=OFFSET),
    _frame("append", event={"body": {"type": "CUSTOM", "name": "x", "value": [1, {"a": None}]}}),
    _frame("control", run="r1", action="steer", body={"text": "shorter"}, event="c1", deadline_ms=100),
    _frame("who"),
    _frame("signal", body={"type": "typing"}),
    _frame("presence", data={"at": 3}, status="idle"),
    _frame("answer", request="q1", body={"approved": True}, event="a1"),
    _frame("claim", request="q1"),
    _frame("requests"),
    _frame("cursor", offset=OFFSET),
    _frame("state.put", document="plan", body={"step": 1}, revision=0),
    _frame("state.patch", document="plan", body={"step": None}, revision=1),
    _frame("state.delete", document="plan", revision=1),
    _frame("state.get", document="plan"),
    _frame("state.watch", document="plan"),
    _frame("state.unwatch"),
    _frame("participant.add", participant="user:bob"),
    _frame("policy", policy={"when_busy": "steer", "answer_within_s": 60}),
    _frame("whisper", text="psst", run="r1", event="w1"),
    _frame("handoff.offer", to="role:operator", note="please"),
    _frame("say", message={"id": "m1", "content": "Hi"}),
    _frame("runs"),
    _frame("retention.set", retention={"max_age_s": 60, "closed_s": None, "max_idle_s": "inherit"}),
    _frame("hold", hold="case-17", reason="Letter of 3 May"),
    _frame("redact", message="m1", reason="A card number."),
)  # fmt: skip


def frame(data: bytes) -> None:
    """Read a frame, and check what it carries as far as that goes without a broker."""
    with refused_by_code():
        try:
            operation = operations.parse(data, MODELS).operation
        except Unreadable as error:
            if error.id is not None:
                orjson.dumps(error.id)
            raise
        for name, value in vars(operation).items():
            _check_field(name, value)


def _check_field(name: str, value: Any) -> None:
    match name:
        case "session":
            names.check_session(value)
        case "after":
            assert isinstance(parse_after(value), str | Offset)
        case "since" | "offset" | "at" if value is not None:
            Offset.parse(value)
        case "event" if isinstance(value, operations.NewEvent):
            append(orjson.dumps(value.body) if _spellable(value.body) else b"")
            parse_body(value.body)
        case "policy":
            parse_policy(value)
        case "retention":
            changed({}, value)
        case "hold":
            check_name(value)
        case "presence" | "data" if value is not None:
            check_data(value)
        case "status":
            check_status(value)
        case "document" if value is not None:
            check_document(value)
        case "revision":
            check_revision(value)
        case "body":
            check_body("plan", value)


def _spellable(value: object) -> bool:
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


def append(data: bytes) -> None:
    """Check an event's body, as each role, and keep what was said of it."""
    with refused_by_code():
        parsed = parse_body(data)
        assert orjson.loads(parsed.raw)["type"] == parsed.type
        check_input(parsed.type, parsed.body)
        for role in ("user", "agent", "operator", "supervisor", "service"):
            with refused_by_code():
                authorize(parsed.type, role)
        destination(parsed.type, parsed.body, "r1")


_BODIES: Final[tuple[type[BaseModel], ...]] = (NewSession, PostedEvent, PostedControl, PostedFork)


def body(data: bytes) -> None:
    """Read a request's body by every model there is."""
    try:
        value = read_json(data)
    except orjson.JSONDecodeError:
        return
    for model in (*_BODIES, *(capability.model for capability in CAPABILITIES.values())):
        with refused_by_code():
            checked = operations.check(model, value, "The request")
            assert checked.model_dump(exclude_unset=True) == value


def query(data: bytes) -> None:
    """Read the query of a page, a poll and a stream, and its Last-Event-ID: a line each."""
    asked, _, last = data.partition(b"\n")
    path = "/v1/sessions/s1/events?" + asked.decode("latin-1").replace("#", "")
    with refused_by_code():
        try:
            request = request_of(path, **({"Last_Event_ID": text_of(last)} if last else {}))
        except ValueError:
            return  # a path that no server takes for one
        found = _asked(request)
        assert 1 <= found.limit <= 1000
        assert 0 <= found.timeout_ms <= 60_000
        query_of(request, "after", "before", "limit", "live", "ticket", "timeout_ms", "view")


def limit(data: bytes) -> None:
    with refused_by_code():
        assert 1 <= number({"limit": text_of(data)}, "limit", 100) <= 1000


def offset(data: bytes) -> None:
    """Read an offset; what is one is spelled as it was."""
    text = text_of(data)
    with refused_by_code():
        assert str(Offset.parse(text)) == text
    with refused_by_code():
        after = parse_after(text)
        assert str(after) == text or after == "start"


def name(data: bytes) -> None:
    """Check a name as everything that has one; what passes can be a subject's token, and comes back from it."""
    text = text_of(data)
    checks = (names.check_session, names.check_tenant, names.check_id, names.check_participant, names.check_durable)
    for check in (*checks, check_document):
        with refused_by_code():
            check(text)
            token = names.escape(text)
            assert token.isascii()
            assert not set(token) & set(" .*>\r\n")
            assert names.unescape(token) == text
            stored = parse_stored(Place("t", text).stored("ev", text, text))
            assert stored[2:] == (text, text, text)


def forwarded(data: bytes) -> None:
    """Read a peer's address and X-Forwarded-For: a line each. A client is called by an address, a network, or not."""
    peer, _, heard = text_of(data).partition("\n")
    everybody = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    for trusted in ((), everybody[:1], everybody):
        client = client_of(peer, heard, trusted)
        assert client == UNKNOWN or ipaddress.ip_network(client)
        assert client == UNKNOWN or parse_address(client.partition("/")[0]) is not None


def origin(data: bytes) -> None:
    """Read an Origin and a Host: a line each."""
    said, _, host = text_of(data).partition("\n")
    parsed = parse_origin(said)
    assert parsed is None or parse_origin(parsed) == parsed
    assert parsed is None or may_use(parsed, parsed.partition("://")[2], frozenset())
    may_use(said, host, frozenset({"https://app.example"}))
    host_name(host)


def signal(data: bytes) -> None:
    """Read what another process says in passing; and what a client says is read back as it was."""
    read_signal(data)
    try:
        value = read_json(data)
    except orjson.JSONDecodeError:
        return
    with refused_by_code():
        said = read_signal(spell_signal(Origin("c1", "user:ada", "d1"), value))
        assert said is not None
        assert said.fields["body"] == orjson.loads(orjson.dumps(value))


def document(data: bytes) -> None:
    try:
        value = read_json(data)
    except orjson.JSONDecodeError:
        return
    with refused_by_code():
        assert check_body("plan", value) == value
    with refused_by_code():
        check_revision(value)


def question(data: bytes) -> None:
    """Check what an agent asks, and an answer to it."""
    try:
        value = read_json(data)
    except orjson.JSONDecodeError:
        return
    if not isinstance(value, dict) or not isinstance(value.get("body"), dict):
        return
    for kind in ("tool", "approval", "choice", "text", "form"):
        with refused_by_code():
            check_question(value["body"], kind)  # type: ignore[arg-type]
        with refused_by_code():
            check_answer(kind, value["body"], value.get("answer"))  # type: ignore[arg-type]


_SCHEMA: Final = {
    "type": "object",
    "properties": {"size": {"type": "string", "pattern": "^[sml]$"}, "n": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"type": "integer", "minimum": 0}},
    "required": ["size"],
}

TARGETS: Final = (
    Target("frame", frame, FRAMES),
    Target(
        "append",
        append,
        [orjson.dumps(MESSAGE), orjson.dumps({"type": "app.rated", "stars": 5, "parent": None}),
         orjson.dumps({"type": "message.regenerate", "message": "m1", "pool": "billing"}),
         orjson.dumps({**MESSAGE, "pool": "p1", "parent": "m0", "when_busy": "steer"}),
         orjson.dumps({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "x"})],
    ),
    Target(
        "body",
        body,
        [orjson.dumps({"session": "s1", "labels": {"a": "b"}, "participants": ["user:bob"]}),
         orjson.dumps({"id": "e1", "body": MESSAGE, "since": OFFSET}), orjson.dumps({"at": OFFSET, "session": "f1"}),
         orjson.dumps({"run": "r1", "action": "cancel", "deadline_ms": 5000, "body": {}}), *FRAMES],
    ),
    Target(
        "query",
        query,
        [f"after={OFFSET}&limit=100&view=messages".encode(), b"live=long-poll&timeout_ms=0&after=tail",
         f"live=sse&ticket=abc\n{OFFSET}".encode(), b"before=tail&limit=1000", b"limit=%31&after=start"],
    ),
    Target("limit", limit, [b"1", b"1000", b"0000000100"]),
    Target("offset", offset, [OFFSET.encode(), b"start", b"tail", b"0" * 16 + b"_" + b"0" * 16]),
    Target("name", name, [b"chat-1", b"user:ada", b"agent:a@b.example", b"a_b:c@d~e-f", b"_tools", b"t1", b"v1.2=3"]),
    Target(
        "forwarded",
        forwarded,
        [b"10.0.0.1\n1.2.3.4, 10.0.0.2", b'::1\n"[2001:db8::1]:443", unknown', b"::ffff:10.0.0.1\n1.2.3.4:80",
         b"fe80::1%eth0\nfe80::2%25eth0,,"],
    ),
    Target(
        "origin",
        origin,
        [b"https://app.example\napp.example", b"http://127.0.0.1:8080\n127.0.0.1:8080", b"https://[::1]:443\n[::1]",
         b"null\n"],
    ),
    Target(
        "signal",
        signal,
        [orjson.dumps({"type": "typing"}),
         orjson.dumps({"op": "cursor", "connection": "c", "fields": {"actor": "user:a", "device": "d", "offset": "o"}}),
         orjson.dumps({"op": "signal", "connection": "c", "fields": {"actor": "user:a", "device": "d", "body": {}}})],
    ),
    Target("document", document, [orjson.dumps({"step": 1, "done": [True, None, 1.5], "who": {"a": "b"}}), b"0", b"7"]),
    Target(
        "question",
        question,
        [orjson.dumps({"body": {"title": "t", "kind": "form", "schema": _SCHEMA}, "answer": {"size": "s", "n": 1}}),
         orjson.dumps({"body": {"title": "t", "options": ["s", {"id": "m"}], "to": "role:user"}, "answer": "s"}),
         orjson.dumps({"body": {"tool": "t", "to": {"participant": "user:a", "device": "d"}, "deadline_ms": 5}}),
         orjson.dumps({"body": {"title": "t", "default": {"approved": True}, "deadline_ms": 5}, "answer": {}})],
    ),
)  # fmt: skip
