"""The only room that knows how an event is spelled in bytes: stored headers, and the JSON of an event.

A stored message is headers and a body. Of a delta the body is the JSON string of its text alone; the
rest of its AG-UI body is in the headers and is put around it when it is delivered (`Record.body`).
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

import orjson

from session_fabric.words.events import DELTA_KEYS, BlobRef, DeltaRef, Draft, Event
from session_fabric.words.names import is_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import GATEWAY_WRITER, IMPORT_WRITER, Place, Subject, parse_stored, writer_of
from session_fabric.words.traces import PARENT, STATE, TraceContext, parse_trace

TYPE: Final = "Sf-Type"
ACTOR: Final = "Sf-Actor"
RUN: Final = "Sf-Run"
DELTA: Final = "Sf-Delta"
BLOB: Final = "Sf-Blob"
SEALED: Final = "Sf-Sealed"
AT: Final = "Sf-At"
MSG_ID: Final = "Nats-Msg-Id"

MALFORMED: Final = "fabric.malformed"
_NAMELESS: Final = "service:gateway"  # the actor where a gateway has not said for whom


def message_id(place: Place, segment: int, event_id: str) -> str:
    """Build the broker's dedupe id: it is per stream, so it names the session and its life too."""
    return f"{_life(place, segment)}/{event_id}"


# A short hash would be made to collide, and one tenant's event be taken for another's: 128 bits.
@lru_cache(maxsize=16_384)
def _life(place: Place, segment: int) -> str:
    named = f"{place.key()}/{segment}".encode("ascii")
    return blake2b(named, digest_size=16).hexdigest()


def stored_headers(draft: Draft, place: Place, segment: int) -> dict[str, str]:
    """Return the headers under which a draft is stored."""
    headers = {MSG_ID: message_id(place, segment, draft.id), TYPE: draft.type}
    if draft.writer in (GATEWAY_WRITER, IMPORT_WRITER):
        headers[ACTOR] = draft.actor
    if draft.run is not None and draft.kind != "tok":
        headers[RUN] = draft.run
    if draft.delta is not None:
        headers[DELTA] = f"{draft.delta.at} {draft.delta.message}"
    if draft.blob is not None:
        headers[BLOB] = f"{draft.blob.size} {draft.blob.sha256} {draft.blob.name}"
    if draft.headers:
        headers.update(draft.headers)
    return headers


@lru_cache(maxsize=4096)
def subject_parts(subject: str) -> Subject:
    try:
        return parse_stored(subject)
    except ValueError:
        # What a native program stored under a kind that is none is shown as a milestone.
        return parse_stored(f"sf.ev.{subject.split('.', 2)[2]}")


@lru_cache(maxsize=1024)
def _second(stamp: bytes) -> int:
    return int(datetime.fromisoformat(f"{stamp.decode('ascii')}+00:00").timestamp()) * 1000


def timestamp_ms(stamp: bytes) -> int:
    """Read the broker's RFC 3339 time (`2026-01-02T03:04:05.123456789Z`) as milliseconds since 1970."""
    return _second(stamp[:19]) + int((stamp[20:-1] + b"000")[:3] if stamp[19:20] == b"." else 0)


@cache
def needle_of(name: str) -> bytes:
    """Return what to look for in a raw header block."""
    return f"\r\n{name}:".encode() + b" "


_TYPE, _ACTOR, _RUN = needle_of(TYPE), needle_of(ACTOR), needle_of(RUN)
_DELTA, _BLOB, _MSG_ID = needle_of(DELTA), needle_of(BLOB), needle_of(MSG_ID)
_SEALED, _AT = needle_of(SEALED), needle_of(AT)
_STAMP = needle_of("Nats-Time-Stamp")
# What a browser's numbers hold exactly; a native program may write anything.
_MOST_DIGITS: Final = 15
_DIGITS: Final = re.compile(rf"[0-9]{{1,{_MOST_DIGITS}}}")
# How `stored_headers` begins: with the id, the only header in which an event differs from most of its neighbours.
_ID_FIRST: Final = re.compile(rb"NATS/1\.0\r\nNats-Msg-Id: [^/\r\n]{0,64}/([A-Za-z0-9_:.~@=-]{1,128})\r\n")
# The whole of what `stored_headers` spells of a delta.
_DELTA_ALONE: Final = re.compile(
    rb"NATS/1\.0\r\nNats-Msg-Id: [^\r\n]*\r\nSf-Type: ([^\r\n]*)\r\nSf-Delta: ([0-9]{1,15}) ([^\r\n]*)\r\n"
)
# Of nanoseconds since 1970, from 2001 until 2286.
_NS_DIGITS: Final = 19
_OF_ITS_OWN: Final = (_MSG_ID, _DELTA, _BLOB, _AT)
# What `stored_headers` spells behind the id of most events, and what the broker was told to expect of a run's.
_BEHIND_ID: Final = re.compile(
    rb"\r\nSf-Type: ([^\r\n]*)\r\n(?:Sf-Actor: ([^\r\n]*)\r\n)?(?:Sf-Run: ([A-Za-z0-9_:.~@=-]{1,128})\r\n)?"
    rb"(?:(?!Sf-|Nats-Msg-Id)[^\r\n]+\r\n)*(?:\r\n)?"
)


class Alike(NamedTuple):
    """What many events of a session have in common: looked for once in their headers, not once in each."""

    type: str
    actor: str
    run: str | None


@lru_cache(maxsize=1024)
def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


@lru_cache(maxsize=4096)
def alike_of(subject: str, head: bytes) -> Alike | None:
    """Read headers without the id in front; None where there is more in them that is one event's alone."""
    if not subject.startswith("sf.tok.") and (usual := _BEHIND_ID.fullmatch(head)) is not None:
        type, actor, run = usual.groups()
        writer = writer_of(subject)
        if writer in (GATEWAY_WRITER, IMPORT_WRITER):
            writer = _text(actor or b"").strip() or _NAMELESS
        return Alike(_text(type), writer, None if run is None else run.decode("ascii"))
    if any(needle in head for needle in _OF_ITS_OWN):
        return None
    record = Record(0, 0, 0, subject, b"NATS/1.0" + head, b"")
    return Alike(record.type, record.actor, record.run)


class Record:
    """One stored event, unparsed: made once for each that arrives, on the token path.

    `previous` is the sequence before this one on the same exact subject (0: none, or not told). `ts` is milliseconds
    since 1970, or as it was received, nanoseconds in digits or RFC 3339; None: the head has it.
    `head` holds the raw header block; its values are looked for when asked. `own`: how much of it is the publisher's,
    ahead of what the broker has put behind; None: all.
    """

    __slots__ = (
        "_alike",
        "_body",
        "_malformed",
        "_ts",
        "head",
        "own",
        "payload",
        "previous",
        "segment",
        "sequence",
        "subject",
    )

    def __init__(
        self,
        segment: int,
        sequence: int,
        previous: int,
        subject: str,
        head: bytes,
        payload: bytes,
        ts: int | bytes | None = None,
        own: int | None = None,
    ) -> None:
        self.segment = segment
        self.sequence = sequence
        self.previous = previous
        self.subject = subject
        self.head = head
        self.payload = payload
        self._body: bytes | None = None
        self._malformed = False
        self._ts = ts
        self.own = own
        self._alike: tuple[bytes, Alike] | Literal[False] | None = False  # not looked for yet

    def __repr__(self) -> str:
        return f"<Record {self.sequence} {self.subject} {self.type}>"

    def value(self, needle: bytes) -> bytes | None:
        """Return the value behind `needle`, a header's name as `needle_of` spells it; the last wins.

        The broker appends its own headers behind a publisher's.
        """
        head = self.head
        start = head.rfind(needle)
        if start < 0:
            return None
        start += len(needle)
        return head[start : head.find(b"\r\n", start)]

    def header(self, name: str) -> str | None:
        """Return a header's value as text."""
        value = self.value(needle_of(name))
        return None if value is None else value.decode("utf-8", "replace").strip()

    @property
    def offset(self) -> Offset:
        return Offset(self.segment, self.sequence)

    @property
    def parts(self) -> Subject:
        return subject_parts(self.subject)

    @property
    def type(self) -> str:
        value = self.value(_TYPE)
        return MALFORMED if value is None else value.decode("utf-8", "replace")

    @property
    def alike(self) -> tuple[bytes, Alike] | None:
        """Return the id, and what is told of many at once; None: of this one each field has to be asked for.

        The type is the header's: see `malformed`.
        """
        found = self._alike
        if found is False:
            # A delta says in its headers where it begins: they are no other's, and not to be kept in mind.
            named = None if self.head.find(_DELTA, 0, self.own) >= 0 else _ID_FIRST.match(self.head)
            told = None if named is None else alike_of(self.subject, self.head[named.end() - 2 : self.own])
            found = self._alike = None if named is None or told is None else (named[1], told)
        return found

    @property
    def id(self) -> str:
        value = self.value(_MSG_ID)
        id = "" if value is None else value.rpartition(b"/")[2].decode("utf-8", "replace")
        # A stranger's event may have none: its place is unique too.
        return id if is_id(id) else f"at-{self.segment}-{self.sequence}"

    @property
    def actor(self) -> str:
        writer = self.parts.writer
        if writer in (GATEWAY_WRITER, IMPORT_WRITER):
            return self.header(ACTOR) or _NAMELESS
        return writer

    @property
    def run(self) -> str | None:
        parts = self.parts
        if parts.kind == "tok":
            return parts.name
        run = self.header(RUN)
        return run if run is not None and is_id(run) else None

    @property
    def ts(self) -> int:
        if self.head.find(_AT) >= 0 and self.parts.writer == IMPORT_WRITER:
            at = self.header(AT) or ""  # when it happened, not when it was imported
            if _DIGITS.fullmatch(at):
                return int(at)
        if self._ts is None:
            self._ts = self.value(_STAMP) or b"1970-01-01T00:00:00Z"
        if isinstance(self._ts, bytes):
            self._ts = int(self._ts) // 1_000_000 if self._ts.isdigit() else timestamp_ms(self._ts)
        return self._ts

    @property
    def ts_digits(self) -> bytes:
        """Return `ts` as it is spelled."""
        ns = self._ts
        if isinstance(ns, bytes) and len(ns) == _NS_DIGITS and self.head.find(_AT) < 0:
            return ns[:-6]
        return b"%d" % self.ts

    @property
    def delta(self) -> DeltaRef | None:
        value = self.value(_DELTA)
        if value is None:
            return None
        at, _, message = value.partition(b" ")
        if not at.isdigit() or len(at) > _MOST_DIGITS:
            return None
        return DeltaRef(message.decode("utf-8", "replace"), int(at))

    @property
    def typed_delta(self) -> tuple[str, DeltaRef] | None:
        """Return `type` and `delta` of a delta, looked for together."""
        alone = _DELTA_ALONE.match(self.head)
        if alone is not None and alone.end() == self.own:
            type, at, message = alone.groups()
            return type.decode("utf-8", "replace"), DeltaRef(message.decode("utf-8", "replace"), int(at))
        delta = self.delta
        return None if delta is None else (self.type, delta)

    @property
    def blob(self) -> BlobRef | None:
        value = self.header(BLOB)
        if value is None:
            return None
        size, _, rest = value.partition(" ")
        digest, _, name = rest.partition(" ")
        # What a native publisher wrote there may be anything.
        return BlobRef(int(size), digest, name) if _DIGITS.fullmatch(size) and name else None

    @property
    def trace(self) -> TraceContext | None:
        """Return the trace that it belongs to, where it carries one."""
        parent = self.header(PARENT)
        return None if parent is None else parse_trace(parent, self.header(STATE))

    @property
    def sealed(self) -> bool:
        """Say whether its body was stored encrypted."""
        return self.head.find(_SEALED) >= 0

    @property
    def body(self) -> bytes:
        """Return the body as valid JSON, once checked; what a stranger stored that is none is replaced."""
        if self._body is None:
            self._body = self._checked_body()
        return self._body

    @property
    def malformed(self) -> bool:
        """Say whether the body had to be replaced."""
        if self._body is None:
            self._body = self._checked_body()
        return self._malformed

    @property
    def delivered_type(self) -> str:
        """Return the type as readers get it: that of the body, which is `MALFORMED` where the body was replaced."""
        return MALFORMED if self.malformed else self.type

    def _replaced(self, reason: str) -> bytes:
        self._malformed = True
        return orjson.dumps({"type": MALFORMED, "reason": reason, "bytes": len(self.payload)})

    def _checked_body(self) -> bytes:
        alike = self.alike
        delta, kind = (self.delta, self.type) if alike is None else (None, alike[1].type)
        try:
            value = orjson.loads(self.payload)
        except orjson.JSONDecodeError:
            return self._replaced("sealed" if self.sealed else "not JSON")
        if delta is None:
            if not isinstance(value, dict):
                return self._replaced("not an object")
            # The header is what was allowed: a body that says otherwise would be taken for something else.
            return self.payload if value.get("type") == kind else self._replaced("another type than allowed")
        key = DELTA_KEYS.get(kind)
        if key is None or not isinstance(value, str):
            return self._replaced("not a delta")
        return b'{"type":"%b","%b":%b,"delta":%b}' % (
            kind.encode(),
            key.encode(),
            orjson.dumps(delta.message),
            self.payload,
        )

    def event(self) -> Event:
        """Return the event as the SDK's users see it."""
        delta = self.delta
        return Event(
            offset=self.offset,
            id=self.id,
            type=self.delivered_type,
            actor=self.actor,
            run=self.run,
            ts=self.ts,
            raw=self.body,
            at=None if delta is None else delta.at,
            trace=None if delta is not None else self.trace,
        )


@lru_cache(maxsize=4096)
def _spelled(told: Alike) -> bytes:
    return b'"type":%b,"actor":%b,"run":%b' % tuple(map(orjson.dumps, told))


def event_json(record: Record) -> bytes:
    """Spell one event whole, as HTTP answers and frames carry it."""
    alike, delta = record.alike, None
    if alike is None or record.malformed:
        delta = record.delta
        told = Alike(record.delivered_type, record.actor, record.run)
        id = b"" if delta is not None else b'"id":%b,' % orjson.dumps(record.id)
    else:
        id, told = b'"id":"%b",' % alike[0], alike[1]  # an id has nothing in it that JSON would spell otherwise
    at = b"" if delta is None else b'"at":%d,' % delta.at
    return b'{"offset":"%016d_%016d",%b%b,"ts":%b,%b"body":%b}' % (
        record.segment,
        record.sequence,
        id,
        _spelled(told),
        record.ts_digits,
        at,
        record.body,
    )
