"""What a participant has to be granted for what becomes of a session's record. Pure."""

from __future__ import annotations

from typing import Final

from session_fabric.ports import Home
from session_fabric.records import SessionRecord
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
}


def needed_for_new(new: SessionRecord, source: SessionRecord | None, home: Home, participant: str) -> list[str]:
    """Return the operations that making this session needs. Raises `Forbidden` for what is nobody's to make."""
    *shared, own = new.segments
    known = () if source is None else source.segments
    placed = (own.tenant, own.session) == new.place and (own.stream, own.epoch) == home
    # A fork shares its source's beginning, the last of it cut off somewhere.
    forked = len(shared) <= len(known) and all(
        (mine.id, mine.stream, mine.epoch, mine.tenant, mine.session, mine.after)
        == (theirs.id, theirs.stream, theirs.epoch, theirs.tenant, theirs.session, theirs.after)
        and mine.upto is not None
        for mine, theirs in zip(shared, known, strict=False)
    )
    if not placed or not forked or new.state != "open" or (new.source is not None and source is None):
        raise _no(new)
    strangers = set(new.participants) - {participant} - set(() if source is None else source.participants)
    return ["create", *(["invite"] if strangers else [])]


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
