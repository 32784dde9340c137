"""Events as their readers get them: in frames, as compact deltas, as server-sent events. Pure, and the hot path.

Everything is encoded once for each form that somebody reads, whatever the number of readers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import orjson
from session_fabric.rules.audience import for_users
from session_fabric.words.delivered import Common, Delivered, body_sizes
from session_fabric.words.events import DELTA_KEYS, RUN_ENDS, utf16_length
from session_fabric.words.subjects import GATEWAY_WRITER, parse_stored
from session_fabric.words.wire import Alike, Record, event_json

from session_fabric_gateway.framing import text_frame

View = Literal["full", "messages"]
Form = Literal["plain", "compact", "sse"]


class Sight(NamedTuple):
    """What a reader gets to see: the view that was asked for; `everything` False: without what users do not see."""

    view: View
    everything: bool


# What a list of messages does not need (docs/protocol.md section 4, `view`).
_NOT_OF_MESSAGES: Final = ("TOOL_CALL_", "tool.", "input.", "control.", "presence.", "STATE_", "cursor.", "whisper")
# A catch-up is cut into frames of about this size, so that a slow reader is noticed between two of them.
FRAME_BYTES: Final = 64 * 1024
# Messages written at the same time in one session; beyond, the one silent longest is announced anew.
_MOST_REFS: Final = 64

_json = lru_cache(maxsize=4096)(orjson.dumps)


@lru_cache(maxsize=1024)
def in_messages(type: str) -> bool:
    """Say whether an event of this type is in the view `messages`."""
    return not type.startswith(_NOT_OF_MESSAGES)


def seen(records: Sequence[Record], sight: Sight) -> Sequence[Record]:
    """Return what a reader gets to see."""
    if not sight.everything:
        records = for_users(records)
    if sight.view == "full":
        return records
    if isinstance(records, Delivered):
        return records.where(lambda common: in_messages(common.type))
    return [record for record in records if in_messages(record.type)]


def _differing(told: Alike, last: Alike | None) -> bytes:
    """Spell what is told of an event and was not told of the one before."""
    fields = b""
    if last is None or told.type != last.type:
        fields += b',"type":%b' % _json(told.type)
    if last is None or told.actor != last.actor:
        fields += b',"actor":%b' % _json(told.actor)
    if last is None or told.run != last.run:
        fields += b',"run":%b' % _json(told.run)
    return fields


def events_payload(sub: int, records: Sequence[Record]) -> bytes:
    """Spell an `events` frame; a field that equals the previous event's is left out."""
    parts = _joined(records) if isinstance(records, Delivered) else None
    return b'{"op":"events","sub":%d,"events":[%b]}' % (sub, b",".join(_apart(records) if parts is None else parts))


def _joined(records: Delivered) -> list[bytes] | None:
    """Spell events around their bodies as they are stored; None where they have to be looked at one by one."""
    ids = records.ids
    if ids is None:
        return None
    parts: list[bytes] = []
    last: Alike | None = None
    last_common: Common | None = None
    last_ts = fields = b""
    head = b'{"offset":"%016d_' % records.segment
    for (common, _, sequence, ns, _, body), id in zip(records.rows, ids, strict=True):
        if common is not last_common:
            told, last_common = common.told, common
            assert told is not None
            if told is not last:
                fields, last = _differing(told, last), told
        ts = ns[:-6]  # milliseconds
        if ts == last_ts:
            parts.append(b'%b%b","id":"%b"%b,"body":%b}' % (head, sequence.zfill(16), id, fields, body))
        else:
            last_ts = ts
            parts.append(b'%b%b","id":"%b"%b,"ts":%b,"body":%b}' % (head, sequence.zfill(16), id, fields, ts, body))
        fields = b""
    return parts


def _apart(records: Iterable[Record]) -> list[bytes]:
    """Spell events one by one."""
    parts: list[bytes] = []
    last: Alike | None = None
    last_ts = b""
    for record in records:
        alike, delta = record.alike, None
        if alike is None or record.malformed:
            delta = record.delta
            told = Alike(record.delivered_type, record.actor, record.run)
            id = b"" if delta is not None else record.id.encode()
        else:
            id, told = alike
        fields = b'{"offset":"%016d_%016d"' % (record.segment, record.sequence)
        if delta is None:
            fields += b',"id":"%b"' % id  # an id has nothing in it that JSON would spell otherwise
        if told is not last:
            fields += _differing(told, last)
            last = told
        ts = record.ts_digits
        if ts != last_ts:
            last_ts = ts
            fields += b',"ts":%b' % ts
        if delta is not None:
            fields += b',"at":%d' % delta.at
        parts.append(b'%b,"body":%b}' % (fields, record.body))
    return parts


class Ref:
    """A number that stands for what does not change from one delta to the next; `at`: where the next begins."""

    __slots__ = ("at", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.at = -1


class Refs:
    """The refs of one line of compact deltas: the live line of a view, or one reader's catch-up."""

    def __init__(self, sub: int) -> None:
        self._sub = sub
        # segment, subject, type, message; the one used last at the end
        self._refs: OrderedDict[tuple[int, str, str, str], Ref] = OrderedDict()
        self._numbers = 0

    def announcements(self) -> list[bytes]:
        """Return what tells a new reader what every ref stands for now."""
        return [self._announcement(key, ref) for key, ref in self._refs.items()]

    def payloads(self, records: Sequence[Record]) -> list[bytes]:
        """Return the frames' payloads that carry these events, in order."""
        if type(records) is Delivered and records.ids is not None:
            return self._without_deltas(records)
        out: list[bytes] = []
        plain: list[Record] = []
        deltas: list[bytes] = []
        for record in records:
            alike = record.alike
            typed = None if alike is not None else record.typed_delta
            text = None if typed is None else _text(record, typed[0])
            if typed is None or text is None:
                self._close(out, deltas)
                plain.append(record)
                if self._refs and (alike[1] if alike else record).type in RUN_ENDS and record.parts.kind == "own":
                    self._forget(record.segment, record.parts.name)
                continue
            event_type, delta = typed
            if plain:
                out.append(events_payload(self._sub, plain))
                plain.clear()
            key = (record.segment, record.subject, event_type, delta.message)
            ref = self._refs.get(key)
            if ref is None:
                ref = self._new(key)
            if ref.at != delta.at:
                self._close(out, deltas)
                ref.at = delta.at
                out.append(self._announcement(key, ref))
            ref.at += utf16_length(text)
            deltas.append(b"%d,%d,%b" % (ref.number, record.sequence, record.payload))
        self._close(out, deltas)
        if plain:
            out.append(events_payload(self._sub, plain))
        return out

    def _without_deltas(self, records: Delivered) -> list[bytes]:
        for common in records.commons if self._refs else ():
            if common.type in RUN_ENDS and common.parts.kind == "own":
                self._forget(records.segment, common.parts.name)
        return [events_payload(self._sub, records)]

    def _close(self, out: list[bytes], deltas: list[bytes]) -> None:
        if deltas:
            out.append(b"[%d,%b]" % (self._sub, b",".join(deltas)))
            deltas.clear()

    def _new(self, key: tuple[int, str, str, str]) -> Ref:
        while len(self._refs) >= _MOST_REFS:
            self._refs.popitem(last=False)
        self._numbers += 1
        ref = self._refs[key] = Ref(self._numbers)
        return ref

    def _forget(self, segment: int, run: str) -> None:
        for key in [k for k in self._refs if k[0] == segment and parse_stored(k[1]).name == run]:
            del self._refs[key]

    def _announcement(self, key: tuple[int, str, str, str], ref: Ref) -> bytes:
        segment, subject, type, message = key
        parts = parse_stored(subject)
        return orjson.dumps(
            {
                "op": "ref",
                "sub": self._sub,
                "ref": ref.number,
                "segment": f"{segment:016d}",
                "type": type,
                "actor": parts.writer,
                "run": parts.name,
                "message": message,
                "at": ref.at,
            }
        )


def _text(record: Record, type: str) -> str | None:
    """Return a delta's text, or None where the event cannot go as a compact delta."""
    parts = record.parts
    if type not in DELTA_KEYS or parts.kind != "tok" or parts.writer == GATEWAY_WRITER:
        return None
    try:
        value = orjson.loads(record.payload)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, str) else None


def sse_bytes(records: Iterable[Record]) -> bytes:
    """Spell events as server-sent events. JSON holds no line ends but those in the body's own white space."""
    parts: list[bytes] = []
    for record in records:
        data = event_json(record)
        if b"\n" in data or b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
        parts.append(b"id: %016d_%016d\ndata: %b\n\n" % (record.segment, record.sequence, data))
    return b"".join(parts)


def encoded(sub: int, form: Form, refs: Refs | None, records: Sequence[Record]) -> bytes:
    """Return the bytes that bring these events to a reader of this form."""
    if not records:
        return b""
    if form == "sse":
        return sse_bytes(records)
    if refs is not None:
        payloads = refs.payloads(records)
        return text_frame(payloads[0]) if len(payloads) == 1 else b"".join(map(text_frame, payloads))
    return text_frame(events_payload(sub, records))


def pieces(records: Sequence[Record], most_bytes: int = FRAME_BYTES) -> Iterable[Sequence[Record]]:
    """Cut a stretch of events into pieces of about `most_bytes`, each of at least one event."""
    begin = size = 0
    for at, body_size in enumerate(body_sizes(records)):
        size += body_size + 200
        if size >= most_bytes:
            yield records[begin : at + 1]
            begin, size = at + 1, 0
    if begin < len(records):
        yield records[begin:]
