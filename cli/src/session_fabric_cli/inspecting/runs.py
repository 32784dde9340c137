"""How each run of a session went: how long it took, where it stood still, who had it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final, Literal, NamedTuple

from session_fabric.rules.fold import Fold
from session_fabric.rules.messages import Run
from session_fabric.words import events
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset

Kind = Literal["silence", "suspended", "asking", "orphaned", "writing"]
# Shorter than this nobody minds; nor what is less than so many times the usual of this session.
LEAST_SILENCE_MS: Final = 10_000
UNUSUAL: Final = 5
# So long is long, whatever is usual.
LONG_MS: Final = 60_000
# Whoever writes slower than this (characters a second) has stood still meanwhile.
_SLOWEST: Final = 2
OPEN: Final = frozenset({"claimed", "running", "suspended", "orphaned"})
# How long a run whose process is gone may wait for another (`doorbell.TAKEN_OVER_WITHIN_S`).
ORPHANED_MS: Final = 15_000
_BEGINS: Final[Mapping[str, Kind]] = {
    events.RUN_SUSPENDED: "suspended",
    events.RUN_ORPHANED: "orphaned",
    events.TOOL_REQUESTED: "asking",
    events.INPUT_REQUESTED: "asking",
}
_TEXTS: Final = frozenset({events.MESSAGE_COMPLETED, events.MESSAGE_SNAPSHOT})


class Gap(NamedTuple):
    """A stretch in which a run stored nothing, in milliseconds since 1970. `until` None: it lasts."""

    kind: Kind
    since: int
    until: int | None
    ms: int


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run. Times are milliseconds since 1970, lengths milliseconds.

    `alive`: whether the process that has it lives, None where it has ended or no process is named. `gaps`: silences
    longer than usual, and all the time for which it was orphaned. `forked`: it was under way where a fork begins.
    """

    run: str
    state: str
    agent: str
    pool: str | None
    holder: str | None
    alive: bool | None
    generation: int
    asked: str | None
    started: int
    ended: int | None
    took_ms: int
    first_ms: int | None
    messages: int
    characters: int
    usage: Mapping[str, Any] | None
    takeovers: int
    suspended_ms: int
    asking_ms: int
    orphaned_ms: int
    gaps: Sequence[Gap]
    wrote: int | None
    error: str | None
    code: str | None
    trace: str | None
    forked: bool
    offset: Offset

    @property
    def open(self) -> bool:
        return self.state in OPEN and not self.forked

    def plain(self) -> dict[str, Any]:
        """Spell it as docs/cli.md does."""
        return {
            "run": self.run,
            "state": self.state,
            "agent": self.agent,
            "pool": self.pool,
            "holder": self.holder,
            "alive": self.alive,
            "generation": self.generation,
            "input": self.asked,
            "started": self.started,
            "ended": self.ended,
            "took_ms": self.took_ms,
            "first_ms": self.first_ms,
            "messages": self.messages,
            "characters": self.characters,
            "usage": self.usage,
            "takeovers": self.takeovers,
            "suspended_ms": self.suspended_ms,
            "asking_ms": self.asking_ms,
            "orphaned_ms": self.orphaned_ms,
            "gaps": [gap._asdict() for gap in self.gaps],
            "wrote": self.wrote,
            "error": self.error,
            "code": self.code,
            "trace": self.trace,
            "forked": self.forked,
        }


def run_lines(
    found: Sequence[Event],
    now_ms: int,
    *,
    segment: int,
    holders: frozenset[str],
    wrote: Mapping[str, int],
    traces: Mapping[Offset, str],
) -> list[RunLine]:
    """Return a session's runs, oldest first; `found` are its milestones, oldest first."""
    fold = Fold()
    of_run: dict[str, list[Event]] = {}
    for event in found:
        fold.add(event)
        name = event.run or _run_in(event)
        if name is not None:
            of_run.setdefault(name, []).append(event)
    inputs = {str(event.offset): event.ts for event in found}
    silences = {id: _silences(of_run[id], run, now_ms, wrote.get(id)) for id, run in fold.runs.items() if id in of_run}
    usual = UNUSUAL * _median([gap.ms for gaps in silences.values() for gap in gaps])
    usual = min(max(LEAST_SILENCE_MS, usual), LONG_MS)
    lines = []
    for id, run in fold.runs.items():
        forked = run.state in OPEN and run.since.segment != segment
        lines.append(
            _line(run, of_run[id], silences[id], usual, now_ms, holders, wrote.get(id), inputs, traces, forked)
        )
    return lines


def _line(
    run: Run,
    own: Sequence[Event],
    gaps: Sequence[Gap],
    usual_ms: float,
    now_ms: int,
    holders: frozenset[str],
    wrote: int | None,
    inputs: Mapping[str, int],
    traces: Mapping[Offset, str],
    forked: bool,
) -> RunLine:
    last, is_open = own[-1], run.state in OPEN
    end = next((event for event in reversed(own) if event.type in events.RUN_ENDS), None)
    holder = next((h for event in reversed(own) if isinstance(h := event.body.get("holder"), str)), None)
    messages = [event for event in own if event.type == events.MESSAGE_COMPLETED]
    asked = None if run.input is None else str(run.input)
    until = now_ms if is_open and not forked else last.ts if end is None else end.ts
    started = own[0].ts
    usage = None if end is None else end.body.get("usage")
    first = next((event.ts for event in own if event.type in _TEXTS), None)
    return RunLine(
        run=run.id,
        state=run.state,
        agent=run.agent,
        pool=run.pool,
        holder=holder if is_open else None,
        alive=holder in holders if is_open and not forked and holder is not None else None,
        generation=run.generation,
        asked=asked,
        started=started,
        ended=None if end is None else end.ts,
        took_ms=max(0, until - started),
        first_ms=None if first is None else first - inputs.get(asked or "", started),
        messages=len(messages),
        characters=sum(_length(event) for event in messages),
        usage=usage if isinstance(usage, dict) else None,
        takeovers=sum(event.type == events.RUN_TAKEN_OVER for event in own),
        suspended_ms=_total(gaps, "suspended"),
        asking_ms=_total(gaps, "asking"),
        orphaned_ms=_total(gaps, "orphaned"),
        gaps=[g for g in gaps if g.kind == "orphaned" or (g.kind == "silence" and g.ms >= usual_ms)],
        wrote=wrote if is_open else None,
        error=run.error,
        code=run.code,
        trace=next((trace for event in own if (trace := traces.get(event.offset))), None),
        forked=forked,
        offset=own[0].offset,
    )


def _silences(own: Sequence[Event], run: Run, now_ms: int, wrote: int | None) -> list[Gap]:
    """Return the stretches between a run's milestones, and the one that lasts, where it is open."""
    found = []
    for before, after in pairwise(own):
        kind = _BEGINS.get(before.type, "silence")
        length = after.ts - before.ts
        if kind == "silence" and after.type in _TEXTS and _length(after) * 1000 >= _SLOWEST * length:
            kind = "writing"  # what it said meanwhile was said in deltas, which are gone
        found.append(Gap(kind, before.ts, after.ts, length))
    if run.state in OPEN:
        since = max(own[-1].ts, wrote or 0)
        found.append(Gap(_BEGINS.get(own[-1].type, "silence"), since, None, max(0, now_ms - since)))
    return found


def _total(gaps: Sequence[Gap], kind: Kind) -> int:
    return sum(gap.ms for gap in gaps if gap.kind == kind)


def _median(lengths: Sequence[int]) -> float:
    return median(lengths) if lengths else 0


def _run_in(event: Event) -> str | None:
    """Return the run whose life an event is of, where its header does not say so."""
    if event.type.startswith("run.") or event.type in events.RUN_ENDS or event.type == events.RUN_STARTED:
        body = event.body
        name = body.get("run") or body.get("runId")
        return name if isinstance(name, str) else None
    return None


def _length(event: Event) -> int:
    message = event.body.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return len(content) if isinstance(content, str) else 0
