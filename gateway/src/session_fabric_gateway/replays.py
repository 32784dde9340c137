"""What was lately read from the log, as it was spelled: who reads the same is sent the same bytes. A rule: no I/O.

A piece is all that readers of one line get to see behind one event of a session, up to another. It is good for as long
as the session's record is the one that stood when it was read: whoever removes something changes the record first.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Final, NamedTuple

from session_fabric import Offset, SessionRecord
from session_fabric.history import Read

# Of all sessions, and of one: bytes, and what a piece costs beside its own.
MOST_BYTES: Final = 32 * 1024 * 1024
MOST_OF_ONE: Final = 4 * 1024 * 1024
_AROUND: Final = 300


class Key(NamedTuple):
    """Who is sent the same bytes: readers of one number, who get them in one form. `compact`: with compact deltas."""

    sub: int
    sse: bool
    compact: bool = False


class Piece(NamedTuple):
    """Bytes (none where a reader is to see nothing of it) up to a sequence; `read`: what they were made of.

    `passing`: with deltas, which nobody needs any more when a snapshot of the run has come, or its end.
    """

    data: bytes
    upto: int
    read: Read
    passing: bool = False


class Shelf:
    """The replays of one process; when there is too much, those go that were used longest ago."""

    def __init__(self, most_bytes: int = MOST_BYTES, most_of_one: int = MOST_OF_ONE) -> None:
        self.most_of_one = most_of_one
        self._most = most_bytes
        self._used: OrderedDict[Replay, None] = OrderedDict()

    @property
    def weight(self) -> int:
        return sum(replay.weight for replay in self._used)

    def used(self, replay: Replay) -> None:
        self._used[replay] = None
        self._used.move_to_end(replay)
        weight = self.weight
        while weight > self._most:
            oldest, _ = self._used.popitem(last=False)
            weight -= oldest.weight
            oldest.forget()

    def left(self, replay: Replay) -> None:
        self._used.pop(replay, None)


class Replay:
    """What is kept of one session."""

    def __init__(self, shelf: Shelf) -> None:
        self.weight = 0
        self._shelf = shelf
        self._record: SessionRecord | None = None
        self._upto = 0
        self._life = 0
        self._pieces: dict[tuple[Key, int], Piece] = {}
        self._passing: list[tuple[Key, int]] = []
        self.furthest = 0  # where the last piece begins of those that were kept
        self.passed = 0  # how often deltas were let go
        self._lowest: list[tuple[int, Key]] = []

    def forget(self) -> None:
        """Let all go, and keep nothing that was read until now: something of it may be removed."""
        self._life += 1
        self._record = None
        self._upto = self.weight = self.furthest = 0
        self._pieces.clear()
        self._passing.clear()
        self._lowest.clear()
        self._shelf.left(self)

    def pass_by(self) -> None:
        """Let deltas go: who comes from now on gets what stands in their place."""
        self.passed += 1
        while self._passing:
            piece = self._pieces.pop(self._passing.pop(), None)
            if piece is not None:
                self.weight -= _weight(piece)

    def holds(self, key: Key, after: int) -> bool:
        """Say whether a piece begins behind a sequence; `open` says whether it is good."""
        return (key, after) in self._pieces

    def open(self, record: SessionRecord, upto: Offset) -> int | None:
        """Begin to read up to a head, the record being as it is now; return what `find` and `keep` want.

        None: this reader is neither given anything nor has anything kept. What was read up to a later head has no
        deltas of runs that were not over at this one; of forks, of sealed sessions and while something is being
        redacted nothing is kept.
        """
        whole = len(record.segments) == 1 and record.segments[0].id == upto.segment
        if not whole or record.sealed is not None or record.redacting:
            self.forget()
            return None
        if record != self._record:
            self.forget()
            self._record = record
        if upto.sequence < self._upto:
            return None
        self._upto = upto.sequence
        return self._life

    def find(self, life: int, key: Key, after: int) -> Piece | None:
        return self._pieces.get((key, after)) if life == self._life else None

    def keep(self, life: int, key: Key, after: int, piece: Piece) -> None:
        """Keep a piece; of what is too much for one session, the oldest events go."""
        if life != self._life or (key, after) in self._pieces:
            return
        self._pieces[key, after] = piece
        self.furthest = max(self.furthest, after)
        if piece.passing:
            self._passing.append((key, after))
        self.weight += _weight(piece)
        heapq.heappush(self._lowest, (after, key))
        while self.weight > self._shelf.most_of_one:
            lowest, whose = heapq.heappop(self._lowest)
            if (gone := self._pieces.pop((whose, lowest), None)) is not None:
                self.weight -= _weight(gone)
        self._shelf.used(self)


def _weight(piece: Piece) -> int:
    return len(piece.data) + _AROUND
