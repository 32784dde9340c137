"""Who is believed dead, and who is known to have died, by when: rules over logs, lives and faults. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.fault.history import RUN_ENDS, Event, Fault, History, Life, Verdict
from tests.fault.recovery import GATEWAYS, NODES, found_until

# A lease is renewed for two seconds (docs/guides/presence.md); what is asked before it is believed, and a machine
# that does other things, take as long again.
KNOWN_S = 5.0
# A death that is told was caused within this.
CAUSE_S = 15.0
# Faults that make processes silent which they are not aimed at: those that are at a node that hangs.
_ANYBODYS = frozenset({"freeze", "partition", "one-way", "loss", "full-disk", "latency", "lost-data"})
# Nobody is believed dead for these.
_HARMLESS = frozenset({"clock", "reset", "slow-reader"})


def believed(history: History) -> Iterator[Verdict]:
    """Nobody is believed dead to whom nothing was done."""
    hosts = {life.participant: life.who.partition(".")[0] for life in history.lives}
    for session, stored in history.stored.items():
        floors = dict[object, object]()
        for event in stored:
            who = _lost(event, floors)
            if isinstance(event.body.get("floor"), Mapping):
                floors[event.body.get("pool")] = event.body["floor"].get("participant")
            if who is not None and who in hosts and not _cause(hosts[who], event, history.faults):
                what = f"{session}: {who} was believed dead, and nothing had been done to it"
                yield Verdict("believed dead", what, (event.offset,))


def _lost(event: Event, floors: Mapping[object, object]) -> str | None:
    """Return who is dead by this event; None: it is about no death. `floors`: who had them before, by pool."""
    if event.type == "run.orphaned" and event.body.get("reason") != "stopped":
        return str(event.body.get("agent"))
    if event.type == "presence.left" and event.body.get("reason") == "lost":
        return str(event.body.get("participant"))
    if event.type == "floor.lost":
        return str(floors.get(event.body.get("pool")))
    return None


def _cause(host: str, event: Event, faults: Sequence[Fault]) -> bool:
    near = [f for f in faults if f.kind not in _HARMLESS and f.begun <= event.ts <= f.over + CAUSE_S]
    # A gateway that is away takes with it those who are shown through it.
    through_gateways = event.type == "presence.left"
    return any(
        fault.target == host
        or (through_gateways and fault.target in GATEWAYS)
        or fault.kind == "stall"
        or (fault.kind in _ANYBODYS and fault.target in NODES)
        for fault in near
    )


def found_out(history: History) -> Iterator[Verdict]:
    """What a killed process held is known to be nobody's in time: its runs are orphaned, or have ended."""
    for life in history.lives:
        if life.killed is None:
            continue
        for session, stored in history.stored.items():
            for run, offset in _held(life, stored).items():
                due = _due(life, history.faults)
                at = _released(run, offset, life, stored)
                if at is None or at > due:
                    late = "never" if at is None else f"{at - life.killed:.1f} s later"
                    what = f"{session}: {life.who} was killed with {run} in hand, which was known {late}"
                    yield Verdict("found late", f"{what}; due within {due - life.killed:.1f} s", (offset,))


def _held(life: Life, stored: Sequence[Event]) -> dict[str, str]:
    """Return the runs that a process had when it was killed, each with where it got it."""
    held = dict[str, str]()
    assert life.killed is not None
    for event in stored:
        if event.ts >= life.killed:
            break
        if event.run is None:
            continue
        if event.type in ("RUN_STARTED", "run.taken_over"):
            held.pop(event.run, None)
            if event.actor == life.participant and event.ts >= life.begun:
                held[event.run] = event.offset
        elif event.type in RUN_ENDS or event.type == "run.orphaned":
            held.pop(event.run, None)
    return held


def _released(run: str, offset: str, life: Life, stored: Sequence[Event]) -> float | None:
    assert life.killed is not None
    for event in stored:
        loose = event.type in ("run.orphaned", "run.taken_over") or event.type in RUN_ENDS
        if event.run == run and event.offset > offset and loose:
            return event.ts
    return None


def _due(life: Life, faults: Sequence[Fault]) -> float:
    """Return by when it must be known: later, where faults of others kept everybody from finding out."""
    assert life.killed is not None
    killed, own = life.killed, life.who.partition(".")[0]
    due = killed + KNOWN_S
    for fault in sorted(faults, key=lambda fault: fault.begun):
        if fault.target == own:
            continue
        if fault.begun <= due and fault.over + KNOWN_S > due and fault.over >= killed:
            due = found_until(fault) + KNOWN_S
    return due


def members(history: History) -> Iterator[Verdict]:
    """When all is over, those are shown who are there, and nobody else."""
    for found in history.members:
        for who in sorted(found.expected - found.found):
            yield Verdict("presence", f"{found.session}: {' '.join(who)} is there, and is not shown", who)
        for who in sorted(found.found - found.expected):
            yield Verdict("presence", f"{found.session}: {' '.join(who)} is shown, and is not there", who)
