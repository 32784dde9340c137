"""The page about one session: everything found, decided and put in order. Pure; `now_ms` comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from session_fabric.inspection import Findings
from session_fabric.rules.asked import RequestFold
from session_fabric.rules.controls import ControlFold
from session_fabric.rules.floor import FloorFold
from session_fabric.rules.fold import Fold
from session_fabric.words import events
from session_fabric.words.events import Event

from session_fabric_cli.inspecting.lag import CursorLag, Lag, cursors, lags
from session_fabric_cli.inspecting.runs import RunLine, run_lines
from session_fabric_cli.inspecting.waiting import Waiting, floor_since, waiting

_OUTCOMES = events.CONTROL_OUTCOMES


class Present(NamedTuple):
    """A device that is shown as present. `alive`: whether the process that holds it lives."""

    participant: str
    device: str
    status: str | None
    since: int
    holder: str
    gateway: bool
    alive: bool
    leaving: bool


class FloorLine(NamedTuple):
    """Who has the floor of a pool. `alive`: whether an agent's process lives; `there`: whether a person is present."""

    pool: str
    participant: str | None
    holder: str | None
    alive: bool | None
    there: bool | None
    since: int | None
    offers: Sequence[Mapping[str, Any]]


class ControlLine(NamedTuple):
    """What was asked of a run. `outcome_ms`: how long until it was answered, None while it is not."""

    request: str
    action: str
    run: str
    by: str
    asked: int
    state: str
    outcome_ms: int | None
    reason: str | None
    overdue: bool


class AskedLine(NamedTuple):
    """What a run asks of participants and nobody has answered."""

    request: str
    kind: str
    what: str
    run: str
    to: Any
    asked: int
    age_ms: int
    deadline: int | None
    claimed_by: str | None
    claimed_until: int | None


class Said(NamedTuple):
    """A message, as far as it is known."""

    id: str
    role: str
    actor: str
    run: str | None
    ts: int
    status: str
    text: str


class Failure(NamedTuple):
    """A run that has failed, or an input that was given up (`dead`), with what was said about it."""

    run: str
    pool: str | None
    ts: int | None
    code: str | None
    error: str | None
    dead: bool


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of a session at `now`; all times are milliseconds since 1970. docs/cli.md says what each is."""

    now: int
    session: Mapping[str, Any]
    looked: Mapping[str, Any]
    present: Sequence[Present]
    floors: Sequence[FloorLine]
    runs: Sequence[RunLine]
    controls: Sequence[ControlLine]
    requests: Sequence[AskedLine]
    waiting: Sequence[Waiting]
    lag: Sequence[Lag]
    cursors: Sequence[CursorLag]
    failures: Sequence[Failure]
    documents: Sequence[Mapping[str, Any]]
    messages: Sequence[Said]
    traces: Sequence[str]

    def plain(self) -> dict[str, Any]:
        """Spell it as docs/cli.md does."""
        lists = ("present", "floors", "controls", "requests", "waiting", "lag", "cursors", "failures", "messages")
        rows = {name: [row._asdict() for row in getattr(self, name)] for name in lists}
        return {
            "now": self.now,
            "session": dict(self.session),
            "looked": dict(self.looked),
            "present": rows["present"],
            "floors": rows["floors"],
            "runs": [run.plain() for run in self.runs],
            "controls": rows["controls"],
            "requests": rows["requests"],
            "waiting": rows["waiting"],
            "lag": rows["lag"],
            "cursors": rows["cursors"],
            "failures": rows["failures"],
            "documents": list(self.documents),
            "messages": rows["messages"],
            "traces": list(self.traces),
        }


def make_page(found: Findings, now_ms: int, *, messages: int = 5) -> Page:
    """Make the page; `messages`: how many of the last."""
    fold, floors, controls, requests = Fold(), FloorFold(), ControlFold(), RequestFold()
    for event in found.events:
        for one in (fold, floors, controls, requests):
            one.add(event)
    at = {event.id: event.ts for event in found.events}
    segment = found.record.segments[-1].id
    present = [_present(found, kept) for kept in found.members]
    runs = run_lines(
        found.events, now_ms, segment=segment, holders=found.holders, wrote=found.wrote, traces=found.traces
    )
    lines = [_floor(found, floors, pool, present) for pool in floors.pools()]
    times = {event.offset: event.ts for event in found.events}
    return Page(
        now=now_ms,
        session=_session(found),
        looked={"events": len(found.events), "whole": found.whole, "sealed": found.sealed},
        present=present,
        floors=lines,
        runs=runs,
        controls=[
            ControlLine(c.request, c.action, c.run, c.by, at.get(c.request, 0), c.state, took, c.reason, c.overdue)
            for c in controls.all()
            for took in [_outcome_ms(found.events, c.request, at)]
        ],
        requests=[
            AskedLine(
                one.request.request,
                one.request.kind,
                one.request.tool or str(one.request.body.get("title", "")),
                one.request.run,
                one.request.to,
                one.request.asked,
                now_ms - one.request.asked,
                one.request.deadline,
                claim.by if claim else None,
                claim.until if claim else None,
            )
            for one in requests.all()
            if one.state == "open" and one.request.offset.segment == segment
            for claim in [one.request.claimed if one.request.claimed and one.request.claimed.until > now_ms else None]
        ],
        waiting=waiting(found, fold, floors, runs, now_ms),
        lag=lags(found, now_ms),
        cursors=cursors(found, now_ms),
        failures=_failures(found, runs, fold),
        documents=[
            {"document": one.document, "revision": one.revision, "by": one.by, "ts": one.ts} for one in found.documents
        ],
        messages=[
            Said(m.id, m.role, m.actor, m.run, times.get(m.last, 0), m.status, _text(m.content))
            for m in fold.path()[-messages:]
        ],
        traces=list(dict.fromkeys(_trace_id(trace) for trace in found.traces.values()))[-10:],
    )


def _session(found: Findings) -> dict[str, Any]:
    record = found.record
    floor = record.floor_offset
    return {
        **record.public(),
        "tenant": record.tenant,
        "revision": found.revision,
        "sealed": record.sealed is not None,
        "importing": record.imported is not None and not record.imported.done,
        "forks": list(record.forks),
        "head": str(found.head),
        "removed_upto": None if record.floor == (0, 0) else str(floor),
        "active": max((*(event.ts for event in found.events), *found.wrote.values()), default=None),
        "segments": [asdict(segment) for segment in record.segments],
    }


def _present(found: Findings, kept: Any) -> Present:
    alive = kept.holder in found.holders
    member = kept.member
    return Present(
        member.participant, member.device, member.status, member.since, kept.holder, kept.gateway, alive, kept.leaving
    )


def _floor(found: Findings, floors: FloorFold, pool: str, present: Sequence[Present]) -> FloorLine:
    state = floors.state(pool)
    there = any(one.participant == state.participant and one.alive for one in present) if state.human else None
    return FloorLine(
        pool,
        state.participant,
        state.holder,
        None if state.holder is None else state.holder in found.holders,
        there,
        floor_since(found.events, pool),
        [offer.plain() for offer in floors.offers(pool)],
    )


def _outcome_ms(found: Sequence[Event], request: str, at: Mapping[str, int]) -> int | None:
    outcome = next((e for e in found if e.type in _OUTCOMES and e.body.get("request") == request), None)
    return None if outcome is None or request not in at else max(0, outcome.ts - at[request])


def _failures(found: Findings, runs: Sequence[RunLine], fold: Fold) -> list[Failure]:
    dead = {letter.run: letter for letter in found.dead}
    failed = [
        Failure(run.run, run.pool, run.ended, run.code, run.error, run.run in dead)
        for run in runs
        if run.state == "failed"
    ]
    known = {failure.run for failure in failed}
    return failed + [
        Failure(one.run, one.pool, None, None, None, True) for one in dead.values() if one.run not in known
    ]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]"
        for part in parts
        if isinstance(part, dict)
    )


def _trace_id(traceparent: str) -> str:
    """Return the trace of a W3C `traceparent`: version, trace, span, flags."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= 4 else traceparent[:64]
