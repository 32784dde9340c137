"""Which stretches of which streams make up a session, and what an offset means in it.

A session is a list of segments, oldest first; their ids rise. Each names a stretch of one stream: a fork
begins with its source's segments cut off at the fork, a session whose shard moved has one for each home it
had. An offset is a segment's id and a sequence, so it stays valid when a segment is added, and is refused
where its segment is not listed: that is another session, or another life of this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from session_fabric.words.errors import OffsetForeign, OffsetGone
from session_fabric.words.positions import ZERO, Offset


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a stream: the events of `session` in `(after, upto]`; the last segment's end is open
    (None)."""

    id: int
    stream: str
    epoch: str
    tenant: str
    session: str
    after: int = 0
    upto: int | None = None


class Leg(NamedTuple):
    """What to read of a segment: `(after, upto]`, to its open end when `upto` is None."""

    segment: Segment
    after: int
    upto: int | None


def plan(
    segments: Sequence[Segment],
    after: Offset | Literal["start"],
    floor: Offset = ZERO,
    *,
    head: int | None = None,
) -> list[Leg]:
    """Return what to read, in order, to get everything behind an offset.

    Retention may have removed what is at or below `floor`. With `head`, the newest sequence as the leader
    names it, an offset beyond it in the open segment is found out too. Raises `OffsetForeign` and
    `OffsetGone`.
    """
    first = 0
    if after == "start":
        sequence = 0
    else:
        first, sequence = _find(segments, after, head), after.sequence
        if after < floor:
            raise OffsetGone(
                f"Events after offset {after} are gone: retention removed everything up to {floor}.",
                hint='Go on from "start", which is what is left.',
                offset=str(after),
                resync="start",
            )
    legs = []
    for index in range(first, len(segments)):
        segment = segments[index]
        if segment.id < floor.segment:
            continue
        low = max(segment.after, sequence if index == first else 0)
        if segment.id == floor.segment:
            low = max(low, floor.sequence)
        if segment.upto is None or low < segment.upto:
            legs.append(Leg(segment, low, segment.upto))
    return legs


def check(segments: Sequence[Segment], offset: Offset, floor: Offset = ZERO) -> None:
    """Raise `OffsetForeign` for an offset that the session never gave; one that retention has passed is its own."""
    if offset > floor:
        _find(segments, offset, None)


def fork(segments: Sequence[Segment], at: Offset) -> list[Segment]:
    """Return a session's segments up to and including the event at `at`: how a fork's own list begins."""
    index = _find(segments, at, None)
    cut = replace(segments[index], upto=max(at.sequence, segments[index].after))
    return [*segments[:index], cut]


def next_segment_id(now_us: int, last: int) -> int:
    """Name a new segment: microseconds since 1970, and above `last` (0: none) whatever the clock says."""
    return max(now_us, last + 1)


def _find(segments: Sequence[Segment], offset: Offset, head: int | None) -> int:
    for index, segment in enumerate(segments):
        if segment.id == offset.segment:
            end = head if segment.upto is None else segment.upto
            if end is not None and offset.sequence > end and offset.sequence > segment.after:
                raise OffsetForeign(
                    f"Offset {offset} is beyond {end}, where its part of the session ends.",
                    hint="It is of another branch: use an offset that this session gave you.",
                    offset=str(offset),
                )
            return index
    raise OffsetForeign(
        f"Offset {offset} is not of this session, or of an earlier life of it.",
        hint='Use an offset that this session gave you, "start" or "tail".',
        offset=str(offset),
    )
