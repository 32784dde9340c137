"""Durable streams as they are asked for, and whether one that is there is such a one. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from session_fabric.rules.appends import media_type
from session_fabric.streams.ledger import Page
from session_fabric.words.errors import ContentMismatch, StreamExists
from session_fabric.words.positions import ZERO, Offset
from session_fabric.words.subjects import Place

DEFAULT_TYPE: Final = "application/octet-stream"


class Fork(NamedTuple):
    """What a stream is to begin with: `source` up to `at` (None: all of it) and `sub` messages or bytes more."""

    source: Place
    at: Offset | None = None
    sub: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """A stream as it is asked for. `content_type` None: that of its source, else bytes. `body`: what it begins with."""

    content_type: str | None = None
    ttl_s: int | None = None
    expires_at: str | None = None
    expires_ms: int | None = None
    body: bytes | None = None
    closed: bool = False
    fork: Fork | None = None

    def with_body(self, body: bytes) -> Wish:
        return replace(self, body=body)


def check_type(wished: str, source: str) -> None:
    """Raise `ContentMismatch` unless a fork may have this content type."""
    if media_type(wished) != media_type(source):
        raise ContentMismatch(
            f"The source's content type is {source!r:.100}, not {wished!r:.100}.", hint="A fork has its source's."
        )


def check_same(page: Page, wish: Wish) -> None:
    """Raise `StreamExists` unless a stream is as it is wished for."""
    record, fork = page.record, wish.fork
    differs = []
    source = None if fork is None else fork.source.session
    if record.source != source:
        differs.append("its source")
    elif fork is not None:
        if (
            fork.at is not None
            and record.forked_at != str(fork.at)
            and not (fork.at == ZERO and len(record.segments) == 1)
        ):
            differs.append("its fork offset")
        if record.forked_sub != fork.sub:
            differs.append("its fork sub-offset")
    if wish.content_type is not None or fork is None:
        wished = wish.content_type or DEFAULT_TYPE
        if media_type(record.content_type) != media_type(wished):
            differs.append(f"its content type, {record.content_type:.100}")
    if fork is None or wish.ttl_s is not None or wish.expires_ms is not None:
        if record.ttl_s != wish.ttl_s:
            differs.append("its time to live")
        if record.expires_ms != wish.expires_ms:
            differs.append("its expiry")
    if page.standing.closed != wish.closed:
        differs.append(f"that it is {'closed' if page.standing.closed else 'open'}")
    if differs:
        raise StreamExists(
            f"There is a stream {record.path!r:.200}; what differs: {', '.join(differs)}.",
            hint="Use it as it is, or another path.",
        )
