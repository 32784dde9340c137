"""Exactly one winner: of answers, claims, offers of the floor, and of what ends a request. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.fault.history import Call, Event, History, Verdict

_OUTCOMES: Mapping[str, frozenset[str]] = {
    "tool.requested": frozenset({"tool.answered", "tool.expired"}),
    "input.requested": frozenset({"input.answered", "input.expired"}),
    "control.requested": frozenset({"control.accepted", "control.rejected", "control.expired"}),
    "handoff.offered": frozenset({"handoff.accepted", "handoff.declined", "handoff.expired"}),
}
SETTLES = frozenset().union(*_OUTCOMES.values())
# An offer may also be closed by a change of the floor, which names no request.
EXACTLY = frozenset({"tool.requested", "input.requested", "control.requested"})


def outcomes(session: str, stored: Sequence[Event]) -> Iterator[Verdict]:
    """Exactly one outcome follows each request; at most one each offer; a generation of a floor begins once."""
    closed = defaultdict[str, list[Event]](list)
    for event in stored:
        if any(event.type in types for types in _OUTCOMES.values()) and event.body.get("request"):
            closed[str(event.body["request"])].append(event)
    for event in stored:
        if event.type not in _OUTCOMES or event.id is None:
            continue
        mine = [e for e in closed[event.id] if e.type in _OUTCOMES[event.type]]
        where = (event.offset, *(e.offset for e in mine))
        if len(mine) > 1:
            yield Verdict("winner", f"{session}: {event.type} {event.id} has {len(mine)} outcomes", where)
        elif not mine and event.type in EXACTLY:
            yield Verdict("end", f"{session}: {event.type} {event.id} has no outcome", where)
    yield from _floors(session, stored)


def _floors(session: str, stored: Sequence[Event]) -> Iterator[Verdict]:
    held = dict[str, tuple[int, object]]()
    for event in stored:
        floor = event.body.get("floor")
        if not isinstance(floor, Mapping) or "generation" not in floor:
            continue
        pool, generation = str(event.body.get("pool")), int(floor["generation"])
        who = (floor.get("participant"), floor.get("holder"))
        before, had = held.get(pool, (0, (None, None)))
        if generation < before or (generation == before and who != had):
            what = f"{session}: {who} and {had} have the floor of {pool} in generation {generation}"
            yield Verdict("winner", what, (event.offset,))
        held[pool] = (generation, who)


def contests(history: History) -> Iterator[Verdict]:
    """Of those who wanted the same, at most one was told that he has it, and all others who it is."""
    by_about = defaultdict[tuple[str, str, str], list[Call]](list)
    for call in history.calls:
        if call.about is not None:
            by_about[call.session, call.what, call.about].append(call)
    for (session, what, about), calls in by_about.items():
        won = [call for call in calls if call.outcome == "ok"]
        ids = tuple(call.id for call in won)
        # Whoever took a floor over and asks again, a new process too, is told so again.
        if len({call.participant if what == "floor" else call.id for call in won}) > 1:
            yield Verdict("winner", f"{session}: {len(ids)} were told that they won {what} of {about}", ids)
        real = _really(what, about, history.stored[session])
        if won and real != won[0].participant:
            yield Verdict("winner", f"{session}: {won[0].who} was told to have won {about}, which is {real}'s", ids)
        for call in calls:
            if call.winner is not None and call.winner != real:
                said = f"{session}: {call.who} was told that {call.winner} won {about}, which is {real}'s"
                yield Verdict("winner", said, (call.id,))


def _really(what: str, about: str, stored: Sequence[Event]) -> str | None:
    for event in stored:
        if what == "claim" and event.type == "RUN_STARTED" and event.run == about:
            return event.actor
        if event.body.get("request") != about:
            continue
        if what == "answer" and event.type in ("tool.answered", "input.answered"):
            return str(event.body.get("by"))
        if what == "floor" and event.type in ("handoff.accepted", "handoff.declined"):
            return event.actor
    return None
