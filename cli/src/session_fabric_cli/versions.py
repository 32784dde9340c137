"""What differs in version in a way that matters to who types a command, in a sentence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from session_fabric.census import Process
from session_fabric.rules.versions import FORMAT, Mark, older, skew
from session_fabric.words.version import VERSION


class Note(NamedTuple):
    """What is so, and what to do about it."""

    say: str
    do: str


def of_mark(mark: Mark, version: str = VERSION, format: int = FORMAT) -> Note | None:
    """Compare what is stored with what we know. What we must not use has been refused at the connection."""
    if mark.format == format:
        return None
    if mark.format < format:
        by = f", by Session Fabric {mark.version}" if mark.version else ""
        return Note(
            f"What is stored at this broker is of format {mark.format}{by}; fabricctl {version} is of format {format}.",
            "When all that runs is upgraded: `fabricctl stream provision` (docs/upgrading.md).",
        )
    return Note(
        f"What is stored at this broker is of format {mark.format}, by Session Fabric {mark.version or 'of later'}; "
        f"fabricctl {version} knows formats up to {format}, and may not show all of it.",
        f"Upgrade fabricctl to {mark.version or 'that version'} or newer.",
    )


def of_processes(found: Sequence[Process], version: str = VERSION) -> Note | None:
    """Tell of processes too far from our version; those that did not answer are not among them."""
    told = [(one.kind, one.version) for one in found if one.version is not None]
    apart = [(kind, theirs) for kind, theirs in told if skew(version, theirs) in ("apart", "unknown")]
    if not apart:
        return None
    several = Counter(apart)
    who = ", ".join(
        f"{count} {kind}{'s' if count > 1 else ''} of {theirs or '0.1 or older'}"
        for (kind, theirs), count in sorted(several.items())
    )
    newer = all(theirs and older(version, theirs) for _, theirs in apart)
    do = "Upgrade fabricctl." if newer else "Upgrade them, by way of the versions between (docs/upgrading.md)."
    return Note(f"{who}: too far from fabricctl {version} for what is shown and asked to be relied on.", do)
