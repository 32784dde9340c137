"""What a tenant's audit says of what was done, in which order, and up to where a file of it has come. Pure.

An act is in a log or in the bucket `sf-audit`, and each of these gives its own numbers in the order in which the broker
stored it: by these a file ends, and the next goes on, so that no process's clock decides what is in neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from session_fabric.rules.chains import Checked
from session_fabric.words.errors import Corrupt, InvalidRequest
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset

FORMAT: Final = 2
# How many sessions a line names with where they have come to.
_A_LINE: Final = 1000
# By what an event's type begins with, the operation that whoever did it had to be granted.
OPERATIONS: Final = {
    "session.created": "create",
    "session.forked": "create",
    "session.participants": "invite",
    "session.closed": "policy",
    "session.policy": "policy",
    "session.imported": "create",
    "control.requested": "control:",
    "control.": None,
    "tool.claimed": "answer",
    "tool.answered": "answer",
    "tool.expired": None,
    "input.answered": "answer",
    "input.expired": None,
    "handoff.": "handoff",
    "floor.": None,
    "presence.joined": "presence",
    "presence.left": "presence",
    "whisper": "supervise",
    "message.redacted": "redact",
    "event.redacted": "redact",
    "run.orphaned": None,
    "run.taken_over": None,
}
_FACTS: Final = frozenset(
    {
        *("action", "request", "reason", "to", "by", "pool", "device", "participant", "message", "event"),
        *("defaulted", "source", "at", "status"),
    }
)


class Act(NamedTuple):
    """One line of it. `ts`: milliseconds since 1970 by the broker's clock, or when it happened that was imported."""

    ts: int
    session: str | None
    actor: str
    act: str
    at: str
    run: str | None
    operation: str | None
    facts: Mapping[str, Any]

    def line(self) -> dict[str, Any]:
        return {"type": "act", **self._asdict()}


class Reached(NamedTuple):
    """Up to where acts are told: of the bucket by revision and time of the newest, of each session by offset."""

    revision: int = 0
    ts: int = 0
    sessions: Mapping[str, Offset] = {}

    def tells(self, revision: int, ts: int) -> bool:
        """Say whether an act of the bucket is told. One of a bucket that was made anew is later than all before."""
        return revision <= self.revision and ts <= self.ts

    def after(self, session: str, segment: int, begin: int) -> int:
        """Return the sequence behind which a session's stretch is not told yet."""
        told = self.sessions.get(session)
        return begin if told is None or told.segment != segment else max(begin, told.sequence)

    def further(self, acts: Sequence[tuple[int, int]], sessions: Mapping[str, Offset]) -> Reached:
        """Return up to where acts are told when these of the bucket are (revision and time), and these sessions."""
        revision = max((revision for revision, _ in acts), default=self.revision)
        return Reached(revision, max([self.ts, *(ts for _, ts in acts)]), sessions)

    def lines(self) -> Iterator[dict[str, Any]]:
        named = sorted(self.sessions.items())
        for first in range(0, len(named), _A_LINE):
            page = {session: str(offset) for session, offset in named[first : first + _A_LINE]}
            yield {"type": "reached", "sessions": page}


class Begin(NamedTuple):
    """Where a file begins: behind what was `reached`, at `since` (milliseconds since 1970), but for what was `told`
    from then on, by session and `at`."""

    reached: Reached = Reached()
    since: int = 0
    told: frozenset[tuple[str | None, str]] = frozenset()

    def has(self, act: Act, ts: int) -> bool:
        """Say whether an act of a time, which is behind what was reached, belongs into the file."""
        return ts >= self.since and (act.session, act.at) not in self.told


class PreviousAudit(NamedTuple):
    """What an earlier file says to one that continues it: whose audit it is, its last hash, and where that begins.

    A file of format 1 ended at a time by the clock of who exported it, so that acts from before may not be in it. What
    continues it has all from when it begins that it does not tell.
    """

    tenant: str
    chain: str
    begin: Begin


def previous_of(lines: Iterable[bytes]) -> PreviousAudit:
    """Read a file that is to be continued, once, and check it. Raises `Corrupt`, which names the first line that is
    wrong, `InvalidRequest` for what is no audit."""
    checked = Checked()
    told: set[tuple[str | None, str]] = set()
    sessions: dict[str, Offset] = {}
    try:
        for data in checked.read(lines):
            if checked.manifest.get("kind") != "audit":
                raise InvalidRequest(
                    "This file is no audit.", hint="Continue what `fabricctl audit export` has written."
                )
            if data["type"] == "act":
                told.add((data["session"], data["at"]))
            elif data["type"] == "reached":
                sessions.update((session, Offset.parse(offset)) for session, offset in data["sessions"].items())
        if checked.manifest["format"] == 1:
            begin = Begin(since=int(checked.manifest["since"]), told=frozenset(told))
        else:
            end = checked.end or {}
            begin = Begin(Reached(int(end["revision"]), int(end["ts"]), sessions))
        return PreviousAudit(checked.manifest["tenant"], checked.head, begin)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(
            f"Line {checked.lines} is wrong: it does not say what an audit is continued from.",
            hint="Use another copy of the file, or export anew.",
            line=checked.lines,
        ) from error


def operation_of(type: str) -> str | None:
    """Return by which entry of `OPERATIONS` an event is an act; None: it is none."""
    return next((begin for begin in OPERATIONS if type.startswith(begin)), None)


def act_of(session: str, event: Event) -> Act:
    """Return what an event says of who did what; nothing of what was said."""
    body = event.body
    facts = {name: value for name, value in body.items() if name in _FACTS and isinstance(value, str | int | bool)}
    answer = body.get("body")
    if event.type == "input.answered" and isinstance(answer, dict) and isinstance(answer.get("approved"), bool):
        facts["approved"] = answer["approved"]
    operation = OPERATIONS[operation_of(event.type) or ""]
    if operation == "control:":
        operation += str(body.get("action"))
    return Act(event.ts, session, event.actor, event.type, str(event.offset), event.run, operation, facts)


def ordered(found: Sequence[Sequence[Act]]) -> list[Act]:
    """Put together by time what each log and the bucket have in their order: none before one that it followed there,
    whatever the clocks of the broker's nodes say."""
    placed: list[tuple[int, int, int, Act]] = []
    for which, acts in enumerate(found):
        latest = 0
        for number, act in enumerate(acts):
            latest = max(latest, act.ts)
            placed.append((latest, which, number, act))
    return [act for *_, act in sorted(placed, key=lambda each: each[:3])]
