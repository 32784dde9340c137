"""How much one participant can make that stays: what has no end of its own has a number. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import orjson

from session_fabric.words.errors import InvalidRequest, LimitExceeded
from session_fabric.words.names import check_participant

# A session's record is read whole by everybody who comes.
MOST_PARTICIPANTS: Final = 200
MOST_LABELS: Final = 32
MOST_LABEL_BYTES: Final = 8192
MOST_FORKS: Final = 1000
MOST_SEGMENTS: Final = 100
# What a run asks and nobody has answered, and of what all runs ask how many are shown.
MOST_OPEN_ASKS: Final = 100
MOST_SHOWN_REQUESTS: Final = 1000
# A document of this size or less is let in whatever there is, as far as their number allows.
SMALL_BYTES: Final = 32 * 1024


class Bound(NamedTuple):
    """What is counted under the first `tokens` of a bucket's keys, and how many there may be."""

    what: str
    tokens: int
    most: int
    hint: str
    most_bytes: int | None = None


BOUNDS: Final[Mapping[str, Bound]] = {
    "sf-state": Bound("documents of the session", 2, 200, "Delete one, or put more into one.", 4 * 1024 * 1024),
    "sf-presence": Bound("devices of the participant in the session", 3, 100, "Leave with one that is not used."),
    "sf-cursors": Bound("read markers of the participant in the session", 3, 64, "Let pages share a device."),
    "sf-dead": Bound("dead letters of the session", 2, 1000, "Retry them, or drop them."),
    "sf-checkpoints": Bound(
        "parts of checkpoints of the session", 2, 5000, "Prune them: keep the latest.", 64 * 1024 * 1024
    ),
    "sf-claims": Bound("things that the process holds", 1, 5000, "End some, or use another process."),
}


def check_fits(bound: Bound, sizes: Mapping[str, int], key: str, size: int) -> None:
    """Raise `LimitExceeded` where an entry of this size has no room beside what there is, by key."""
    if key not in sizes and len(sizes) >= bound.most:
        raise LimitExceeded(
            f"There are {len(sizes)} {bound.what}; {bound.most} is the most.", hint=bound.hint, limit=bound.most
        )
    if bound.most_bytes is None or size <= SMALL_BYTES:
        return
    together = sum(sizes.values()) - sizes.get(key, 0) + size
    if together > bound.most_bytes:
        raise LimitExceeded(
            f"The {bound.what} would have {together} bytes together; {bound.most_bytes} is the most.",
            hint=f"Delete one, or keep a link to what is large; {SMALL_BYTES} bytes and less are always let in.",
            limit=bound.most_bytes,
        )


def check_participants(participants: Sequence[str]) -> tuple[str, ...]:
    """Return participants, each once. Raises `InvalidName`, `LimitExceeded`."""
    if isinstance(participants, str) or not isinstance(participants, Iterable):
        raise InvalidRequest(f"participants is {participants!r:.60}.", hint='Use a list: ["user:ada"].')
    found = tuple(dict.fromkeys(map(check_participant, participants)))
    if len(found) > MOST_PARTICIPANTS:
        raise LimitExceeded(
            f"{len(found)} participants are too many; a session has at most {MOST_PARTICIPANTS}.",
            hint="Give others tokens that name the session.",
            limit=MOST_PARTICIPANTS,
        )
    return found


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise `LimitExceeded`, or `InvalidRequest` for what is no text."""
    given: object = labels
    if not isinstance(given, Mapping) or not all(isinstance(label, str) for label in [*given, *given.values()]):
        raise InvalidRequest(f"The labels are {labels!r:.60}.", hint='Use texts by name: {"project": "docs"}.')
    if len(labels) > MOST_LABELS:
        raise LimitExceeded(
            f"{len(labels)} labels are too many; a session has at most {MOST_LABELS}.",
            hint="Put the rest into a document.",
            limit=MOST_LABELS,
        )
    try:
        size = len(orjson.dumps(dict(labels)))
    except orjson.JSONEncodeError as error:
        raise InvalidRequest(f"The labels are not JSON: {error}.", hint="Use UTF-8.") from error
    if size > MOST_LABEL_BYTES:
        raise LimitExceeded(
            f"The labels have {size} bytes; {MOST_LABEL_BYTES} is the most.",
            hint="Put the rest into a document.",
            limit=MOST_LABEL_BYTES,
        )


def check_shares(forks: int, segments: int) -> None:
    """Raise `LimitExceeded` for a session of which too many forks are, or that is a fork of a fork too often."""
    if forks > MOST_FORKS:
        raise LimitExceeded(
            f"The session has {forks - 1} forks; {MOST_FORKS} is the most.", hint="Delete one.", limit=MOST_FORKS
        )
    if segments > MOST_SEGMENTS:
        raise LimitExceeded(
            f"The fork would have the past of {segments - 1} sessions; {MOST_SEGMENTS - 1} is the most.",
            hint="Fork an earlier one.",
            limit=MOST_SEGMENTS,
        )
