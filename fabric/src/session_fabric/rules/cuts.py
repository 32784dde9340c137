"""Where a session's log is cut off when its beginning has to go. Pure: `now` comes in.

Everything up to the cut goes, so what belongs together must be on one side of it. Nothing goes that somebody is still
at: runs under way, requests and messages that may yet be answered. Where runs that have ended overlap so that no place
between them is free, the cut is behind a message that is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from session_fabric.rules.floor import MOST_OFFER_MS
from session_fabric.rules.retention import Retention
from session_fabric.words.events import CONTROL_REQUESTED, HANDOFF_OFFERED, MESSAGE_COMPLETED, RUN_OVER
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Kind

# A reader who is live may be so far from having everything verified: what is younger is never removed.
GRACE_MS: Final = 300_000
# So long at most may a control request wait for its outcome (rules.controls).
_CONTROL_MS: Final = 600_000
_WAITS: Final[Mapping[str, int]] = {CONTROL_REQUESTED: _CONTROL_MS, HANDOFF_OFFERED: MOST_OFFER_MS}


class Weight(NamedTuple):
    """How much of a session there is, deltas left out."""

    events: int = 0
    bytes: int = 0

    def __add__(self, other: object) -> Weight:
        if not isinstance(other, Weight):
            return NotImplemented
        return Weight(self.events + other.events, self.bytes + other.bytes)

    def __sub__(self, other: Weight) -> Weight:
        return Weight(self.events - other.events, self.bytes - other.bytes)


class Seen(NamedTuple):
    """A stored event as far as cutting goes."""

    at: Offset
    ts: int
    bytes: int
    kind: Kind
    name: str
    type: str


class Cut(NamedTuple):
    """The last event that goes, and what goes with it."""

    at: Offset
    weight: Weight


class Cutting:
    """Take events from the oldest on, until one that stays; then `cut`.

    `whole` is what all of the session weighs, `answer_within_ms` how long its messages may wait to be taken.
    """

    def __init__(
        self, limits: Retention, whole: Weight, answer_within_ms: int, now_ms: int, grace_ms: int = GRACE_MS
    ) -> None:
        self._older_than = None if limits.max_age_s is None else now_ms - limits.max_age_s * 1000
        self._excess = Weight(
            0 if limits.max_events is None else whole.events - limits.max_events,
            0 if limits.max_bytes is None else whole.bytes - limits.max_bytes,
        )
        self._now_ms = now_ms
        self._grace_ms = grace_ms
        self._answer_within_ms = max(answer_within_ms, grace_ms)
        self.taken = Weight()
        self._clean: Cut | None = None
        self._completed: list[Cut] = []
        # Runs that have not ended among what was taken, by where they begin.
        self.unended: dict[str, Offset] = {}

    def take(self, seen: Seen) -> bool:
        """Take the next event; False when it stays, and with it everything behind it."""
        if not self._goes(seen):
            return False
        self.taken += Weight(1, seen.bytes)
        if seen.kind == "own" and "/" not in seen.name:
            if seen.type in RUN_OVER:
                self.unended.pop(seen.name, None)
            else:
                self.unended.setdefault(seen.name, seen.at)
        if not self.unended:
            self._clean = Cut(seen.at, self.taken)
        elif seen.type == MESSAGE_COMPLETED:
            self._completed.append(Cut(seen.at, self.taken))
        return True

    def past(self) -> None:
        """What follows is the session's own part: runs of the source that it was forked from go on without it."""
        self.unended.clear()

    def cut(self, open_runs: Collection[str]) -> Cut | None:
        """Return where to cut; None: nothing can go. `open_runs`: which of `unended` are under way."""
        if self._clean is not None:
            return self._clean
        before = min((at for run, at in self.unended.items() if run in open_runs), default=None)
        return max((cut for cut in self._completed if before is None or cut.at < before), default=None)

    def _goes(self, seen: Seen) -> bool:
        age_ms = self._now_ms - seen.ts
        answered_ms = self._answer_within_ms if seen.kind == "in" else _WAITS.get(seen.type, self._grace_ms)
        waits_ms = max(self._grace_ms, answered_ms)
        if age_ms <= waits_ms:
            return False
        if self._older_than is not None and seen.ts < self._older_than:
            return True
        return self.taken.events < self._excess.events or self.taken.bytes < self._excess.bytes
