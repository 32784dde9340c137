"""What a participant has to be granted for what becomes of a session's record. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from session_fabric.ports import Home
from session_fabric.records import SessionRecord
from session_fabric.rules.segments import Segment
from session_fabric.words.errors import Forbidden

_NEEDED: Final = {
    "labels": "append",
    "policy": "policy",
    "participants": "invite",
    # A fork is written down at its source, by whoever makes it.
    "forks": "read",
    # What retention removes, and what erasing leaves.
    "floor": "erase",
    "owed": "erase",
    "retention": "erase",
    "holds": "hold",
    "redacting": "redact",
    "forgetting": "redact",
}
# What a session that has just been made has nothing of yet.
_GOVERNED: Final = ("policy", "owed", "retention", "holds", "redacting", "forgetting")


def needed_for_new(
    new: SessionRecord, source: SessionRecord | None, home: Home, participant: str, end: int | None
) -> list[str]:
    """Return the operations that making this session needs; `end` is the source's newest sequence.

    Raises `Forbidden` for what is nobody's to make.
    """
    *shared, own = new.segments
    known = () if source is None else source.segments
    placed = (own.tenant, own.session) == new.place and (own.stream, own.epoch) == home
    forked = len(shared) <= len(known) and all(
        _is_part(mine, theirs, end, last=mine is shared[-1]) for mine, theirs in zip(shared, known, strict=False)
    )
    # What was deleted is there for the forks that it has.
    forkable = source.state != "deleted" if source is not None else new.source is None
    if not placed or not forked or not forkable or new.state != "open":
        raise _no(new)
    strangers = set(new.participants) - {participant} - set(() if source is None else source.participants)
    governed = [_NEEDED[name] for name in _GOVERNED if getattr(new, name) != SessionRecord.model_fields[name].default]
    return ["create", *(["invite"] if strangers else []), *governed]


def _is_part(mine: Segment, theirs: Segment, end: int | None, *, last: bool) -> bool:
    """Say whether a segment is what a fork has of its source's: the whole, or its beginning where it is the last.

    Where the source goes on, no more than it has said: what it says later is not the fork's.
    """
    upto = end if theirs.upto is None else theirs.upto
    if mine.upto is None or upto is None or replace(mine, upto=None) != replace(theirs, upto=None):
        return False
    return mine.upto <= max(upto, mine.after) if last else mine.upto == theirs.upto


def needed_for_change(old: SessionRecord, new: SessionRecord) -> list[str]:
    """Return the operations that a change needs. Raises `Forbidden` for what is nobody's to change."""
    changed = {name for name in SessionRecord.model_fields if getattr(old, name) != getattr(new, name)}
    needed = [_NEEDED[name] for name in changed & set(_NEEDED)]
    if "state" in changed:
        needed.append("erase" if "deleted" in (old.state, new.state) else "policy")
    if changed - set(_NEEDED) - {"state"}:
        raise _no(new)  # where it is kept, since when, under which key: the fabric's own affair
    return needed


def _no(record: SessionRecord) -> Forbidden:
    return Forbidden(
        f"The record of session {record.session!r:.140} cannot become this.", hint="Use the calls of the SDK."
    )
