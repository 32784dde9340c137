"""Join what is read from the log and what arrives live into one exact sequence.

Live events are delivered at most once and, across subjects, not always in order; stored reads are complete
but late. A `Splice` says for each event whether to deliver it, and keeps two marks: `delivered`, which live
events move, and `verified`, which only complete reads and checks move, and from where a reader resumes.

What its owner does (`session_fabric.follow` is the one that does):

1. Begin: listen first, then *fill*: ask the leader for `head`, read everything in `(verified, head]`, hand
   each record to `stored`, at the end call `filled(head)`. Live records that arrive meanwhile wait in a
   bounded buffer and go through `live` afterwards; when the buffer overflowed, fill again.
2. Each live record goes through `live`. On `GAP` or `LATE` the record is dropped and a fill is made: it
   brings that record too. A head below the record's own sequence is a stale answer: ask again.
3. While filling, `LATE` means that the record belongs below what was delivered: tell the reader to rewind to
   `verified`, call `rewound`, then hand the same record to `stored` again.
4. From time to time, and after every lost connection, *check*: ask the leader for `head` and a replica that
   has `head` for the last sequence of each subject in `(verified, head]`. If `check` says False, fill.

A predecessor that was purged or has expired looks like a gap, but only once: the fill it causes brings
`verified` to the leader's head, at or above the record and its predecessor, so nothing asks for that
predecessor again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class Verdict(IntEnum):
    """What to do with an event."""

    DELIVER = 0
    DUPLICATE = 1  # it was delivered before
    GAP = 2  # an earlier event of its subject is missing: fill
    LATE = 3  # new, but later ones of other subjects were delivered: fill, with a rewind


# Module constants: reading an enum's member costs more than the rest of `live`.
DELIVER: Final = Verdict.DELIVER
DUPLICATE: Final = Verdict.DUPLICATE
GAP: Final = Verdict.GAP
LATE: Final = Verdict.LATE

# A direct get of last sequences answers for at most 1,024 subjects (nats-server, `multi_last`): keep a check
# within one.
MAX_SUBJECTS: Final = 1024


class Splice:
    """The marks of one reader of one segment.

    Invariant: everything at or below `verified` has been had, and of each subject everything up to
    `last[subject]`.
    """

    __slots__ = ("delivered", "last", "max_subjects", "verified")

    def __init__(self, verified: int = 0, *, max_subjects: int = MAX_SUBJECTS) -> None:
        self.verified = verified
        self.delivered = verified
        self.last: dict[str, int] = {}
        self.max_subjects = max_subjects

    def live(self, subject: str, sequence: int, previous: int) -> Verdict:
        """Judge a live event; `previous` is the sequence before it on its exact subject (0: none).

        Records it when the verdict is `DELIVER`, and nothing otherwise. A subject more than `max_subjects`
        since the last check is a `GAP`: the fill verifies all, so that `last` stays bounded.
        """
        verified = self.verified
        if sequence <= verified:
            return DUPLICATE
        last = self.last
        seen = last.get(subject, 0)
        if sequence <= seen:
            return DUPLICATE
        if previous > verified and previous > seen:
            return GAP
        if sequence < self.delivered:
            return LATE
        if seen == 0 and len(last) >= self.max_subjects:
            return GAP
        last[subject] = sequence
        self.delivered = sequence
        return DELIVER

    def had(self, subject: str, sequence: int) -> bool:
        """Say whether an event has been delivered."""
        return sequence <= self.verified or sequence <= self.last.get(subject, 0)

    def stored(self, subject: str, sequence: int) -> Verdict:
        """Judge the next event of a complete stored read that began at `verified`; never a `GAP`.

        Moves `verified` along, so that an interrupted read goes on where it ended.
        """
        if sequence <= self.verified:
            return DUPLICATE
        if sequence <= self.delivered:
            if sequence > self.last.get(subject, 0):
                return LATE
            self.verified = sequence
            return DUPLICATE
        self.verified = self.delivered = sequence
        return DELIVER

    def rewound(self) -> int:
        """Forget what was delivered above `verified`, the reader having been told to; return `verified`."""
        self.last.clear()
        self.delivered = self.verified
        return self.verified

    def filled(self, upto: int) -> None:
        """Take note that a complete read up to `upto`, a head that the leader named, has been delivered."""
        if upto > self.verified:
            self.verified = upto
        if self.verified > self.delivered:
            self.delivered = self.verified
        self._prune()

    def check(self, lasts: Mapping[str, int], upto: int) -> bool:
        """Say whether nothing at or below `upto` is missing; if so, move `verified` there.

        `lasts` is the last sequence of each subject with events in `(verified, upto]`, from a replica known
        to have `upto`. False: fill.
        """
        verified, last = self.verified, self.last
        for subject, sequence in lasts.items():
            if sequence > verified and sequence > last.get(subject, 0):
                return False
        self.filled(upto)
        return True

    def _prune(self) -> None:
        verified = self.verified
        self.last = {subject: sequence for subject, sequence in self.last.items() if sequence > verified}
