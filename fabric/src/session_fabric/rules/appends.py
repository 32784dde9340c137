"""Appends to durable streams: what is stored, what was stored before, and what is refused. Pure.

The rules are those of the Durable Streams Protocol 1.0 (sections 5.2, 5.2.1 and 5.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from session_fabric.words.errors import (
    ContentMismatch,
    InvalidRequest,
    ProducerFenced,
    ProducerGap,
    SequenceRegressed,
    StreamClosed,
)
from session_fabric.words.positions import Offset

# JavaScript's Number.MAX_SAFE_INTEGER: what every client can count to.
MOST: Final = 2**53 - 1
JSON: Final = "application/json"


class Producer(NamedTuple):
    """Who sends an append, and which of its appends it is."""

    id: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A stream as its newest entry shows it, in the stream where appends go now.

    `guard`: that entry's sequence (0: it has none there). `tail`: the offset behind its last bytes. `closer`: who has
    closed it. `seq`: the last `Stream-Seq`.
    """

    guard: int
    tail: Offset
    closed: bool = False
    closer: Producer | None = None
    seq: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a writer asks for. `body` None: nothing to append, only the end."""

    body: bytes | None
    content_type: str | None = None
    seq: str | None = None
    producer: Producer | None = None
    close: bool = False


class Known(NamedTuple):
    """A producer's last append."""

    epoch: int
    seq: int


class Stored(NamedTuple):
    """It is stored already: answer as if it had been now. `last`: the producer's last append, where there is one."""

    last: Known | None


def media_type(content_type: str) -> str:
    """Return what of a content type counts when two are compared."""
    return content_type.partition(";")[0].strip().lower()


def decide(asked: Asked, standing: Standing, known: Known | None, content_type: str) -> Stored | None:
    """Return None for what is to be stored, `Stored` for what was.

    `known`: the last append of `asked.producer`. Raises `ProducerFenced`, `StreamClosed`, `ContentMismatch`,
    `InvalidRequest`, `ProducerGap`, `SequenceRegressed`; the first of them that applies, in this order.
    """
    producer = asked.producer
    if producer is not None and known is not None and producer.epoch < known.epoch:
        raise ProducerFenced(
            f"Producer {producer.id!r:.80} writes in epoch {known.epoch}; {producer.epoch} is over.",
            hint="Another instance of this producer has taken over: stop, or begin a later epoch.",
            epoch=known.epoch,
        )
    if standing.closed:
        if producer == standing.closer and (producer is not None or asked.body is None) and asked.close:
            return Stored(known)
        if producer is None and asked.body is None:
            return Stored(None)
        raise StreamClosed("The stream is closed.", hint="Nothing more can be appended.", offset=str(standing.tail))
    if asked.body is not None and media_type(asked.content_type or "") != media_type(content_type):
        raise ContentMismatch(
            f"The stream's content type is {content_type!r:.100}, not {asked.content_type!r:.100}.",
            hint="Append with the stream's own Content-Type.",
        )
    if producer is not None and (last := _in_turn(producer, known)) is not None:
        return Stored(last)
    if asked.seq is not None and standing.seq is not None and _bytes(asked.seq) <= _bytes(standing.seq):
        raise SequenceRegressed(
            f"Stream-Seq {asked.seq!r:.80} is not above {standing.seq!r:.80}, the last one.",
            hint="They are compared as bytes: write numbers with leading zeros.",
        )
    return None


def _in_turn(producer: Producer, known: Known | None) -> Known | None:
    """Return None for the producer's next append, its last one for one that was stored."""
    if known is not None and producer.epoch == known.epoch:
        if producer.seq <= known.seq:
            return known
        expected = known.seq + 1
    else:
        if known is not None and producer.seq != 0:
            raise InvalidRequest(
                f"Epoch {producer.epoch} of producer {producer.id!r:.80} begins with sequence {producer.seq}.",
                hint="A new epoch begins with Producer-Seq 0.",
            )
        expected = 0
    if producer.seq != expected:
        raise ProducerGap(
            f"Producer {producer.id!r:.80} sends sequence {producer.seq}; {expected} comes next.",
            hint="Send what is missing first.",
            expected=expected,
            received=producer.seq,
        )
    return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
