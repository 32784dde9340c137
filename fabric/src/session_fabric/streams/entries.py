"""How what a durable stream holds is spelled as events of a log, and how its standing is read back from the newest.

All entries of a stream stand under one name, by producer; each is published under the guard that its writer has seen
the one before (`AFTER`), so that they are a chain without a gap, whoever writes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from session_fabric.ports import Guard, Wanted
from session_fabric.rules.appends import Asked, Known, Producer, Standing
from session_fabric.streams.records import StreamRecord
from session_fabric.words.events import Draft
from session_fabric.words.names import escape, new_id, unescape
from session_fabric.words.positions import Offset
from session_fabric.words.wire import ACTOR, TYPE, Record, needle_of

KIND: Final = "ds"
NAME: Final = "m"
ENTRIES: Final = Wanted(KIND, NAME)

DATA: Final = "stream.data"
OPENED: Final = "stream.opened"
CLOSED: Final = "stream.closed"
DELETED: Final = "stream.deleted"
SERVICE: Final = "service:fabric"

_TAIL: Final = "Sf-Tail"  # the offset behind the last bytes, where that is not the entry's own
_END: Final = "Sf-End"
_SEQ: Final = "Sf-Seq"  # the last Stream-Seq, carried on
_PRODUCER: Final = "Sf-Producer"
_AFTER: Final = "Sf-After"
_LIFE: Final = "Sf-Life"
_AFTER_NEEDLE: Final = needle_of(_AFTER)
_DATA: Final = needle_of(TYPE) + DATA.encode() + b"\r\n"

_NOBODY: Final = "_"


def writer_of(producer: Producer | None) -> str:
    """Name the writer under which a producer's entries stand, so that its last one can be asked for."""
    return _NOBODY if producer is None else f"-{producer.id}"


def guard(standing: Standing) -> Guard:
    return Guard(KIND, NAME, standing.guard)


def draft(record: StreamRecord, standing: Standing, asked: Asked, actor: str, type: str | None = None) -> Draft:
    """Return what is to be published for an append, or as a mark of another type."""
    headers = {ACTOR: actor, _LIFE: str(record.life), _AFTER: str(standing.guard)}
    if asked.body is None:
        headers[_TAIL] = str(standing.tail)
    if asked.close:
        headers[_END] = "1"
    seq = asked.seq if asked.seq is not None else standing.seq
    if seq is not None:
        headers[_SEQ] = escape(seq)
    if asked.producer is not None:
        headers[_PRODUCER] = f"{asked.producer.epoch} {asked.producer.seq}"
    return Draft(
        type=type or (CLOSED if asked.body is None else DATA),
        body=asked.body or b"",
        id=new_id(),
        kind=KIND,
        name=NAME,
        actor=actor,
        writer=writer_of(asked.producer),
        headers=headers,
    )


def stood(standing: Standing, asked: Asked, segment: int, sequence: int) -> Standing:
    """Return how a stream stands after an append that was stored at `sequence`."""
    return Standing(
        guard=sequence,
        tail=standing.tail if asked.body is None else Offset(segment, sequence),
        closed=standing.closed or asked.close,
        closer=asked.producer if asked.close else standing.closer,
        seq=asked.seq if asked.seq is not None else standing.seq,
    )


class Newest(NamedTuple):
    """What the newest entry says."""

    standing: Standing
    life: int
    deleted: bool


def newest_of(record: Record, segment: int, *, here: bool) -> Newest:
    """Read a stream's newest entry. `here`: it is in the segment where appends go now."""
    tail, seq, producer = record.header(_TAIL), record.header(_SEQ), producer_of(record)
    closed = record.header(_END) is not None
    standing = Standing(
        guard=record.sequence if here else 0,
        tail=Offset(segment, record.sequence) if tail is None else Offset.parse(tail),
        closed=closed,
        closer=producer if closed else None,
        seq=None if seq is None else unescape(seq),
    )
    return Newest(standing, int(record.header(_LIFE) or 0), record.type == DELETED)


def producer_of(record: Record) -> Producer | None:
    value, writer = record.header(_PRODUCER), record.parts.writer
    if value is None:
        return None
    epoch, _, seq = value.partition(" ")
    return Producer(writer[1:], int(epoch), int(seq))


def asked_of(record: Record) -> Asked:
    """Return the append that an entry was stored for; `seq` is the stream's last one by then."""
    seq = record.header(_SEQ)
    return Asked(
        record.payload if is_data(record) else None,
        seq=None if seq is None else unescape(seq),
        producer=producer_of(record),
        close=ends(record),
    )


def actor_of(record: Record) -> str:
    """Return who appended; the writer in its subject is the producer."""
    return record.header(ACTOR) or ""


def known_of(record: Record) -> Known | None:
    producer = producer_of(record)
    return None if producer is None else Known(producer.epoch, producer.seq)


def is_data(record: Record) -> bool:
    return _DATA in record.head


def ends(record: Record) -> bool:
    """Say whether nothing comes behind this entry."""
    return record.header(_END) is not None


def is_deleted(record: Record) -> bool:
    return record.type == DELETED


def after_of(record: Record) -> int:
    """Return the sequence of the entry before this one, 0 for a segment's first."""
    return int(record.value(_AFTER_NEEDLE) or 0)
