"""Words for breaking a good history in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from tests.fault.history import (
    PASSING,
    Call,
    Event,
    Got,
    History,
    Reading,
    Step,
)

Break = Callable[[History, Random], History]
BREAKS: list[tuple[str, Break]] = []


def breaks(rule: str) -> Callable[[Break], Break]:
    """Note that what this makes of a good history breaks a rule."""

    def noted(made: Break) -> Break:
        BREAKS.append((rule, made))
        return made

    return noted


def with_log(history: History, session: str, log: Sequence[Event]) -> History:
    return replace(history, stored={**history.stored, session: log})


def with_steps(history: History, number: int, steps: Sequence[Step]) -> History:
    readings = list(history.readings)
    readings[number] = replace(readings[number], steps=steps)
    return replace(history, readings=readings)


def one(history: History, rng: Random, *types: str) -> tuple[str, int, Event]:
    """Choose a stored event, of these types or a milestone: session, place, event."""
    session = rng.choice(sorted(history.stored))
    fit = [
        (number, event)
        for number, event in enumerate(history.stored[session])
        if (event.type in types if types else event.type not in PASSING)
    ]
    return session, *rng.choice(fit)


def nowhere(history: History, session: str, gone: Event) -> History:
    """Remove an event from the log, and from all that was delivered."""
    log = [event for event in history.stored[session] if event.offset != gone.offset]
    readings = [without(reading, session, gone) for reading in history.readings]
    return replace(with_log(history, session, log), readings=readings)


def without(reading: Reading, session: str, gone: Event) -> Reading:
    if reading.session != session:
        return reading
    steps = [s for s in reading.steps if not (isinstance(s, Got) and s.event.offset == gone.offset)]
    return replace(reading, steps=steps)


def changed(history: History, session: str, number: int, **more: Any) -> History:
    """Change an event in the log, and in all that was delivered."""
    old = history.stored[session][number]
    new = replace(old, **more)
    log = [*history.stored[session][:number], new, *history.stored[session][number + 1 :]]
    readings = [
        replace(r, steps=[Got(s.at, new) if isinstance(s, Got) and s.event == old else s for s in r.steps])
        if r.session == session
        else r
        for r in history.readings
    ]
    return replace(with_log(history, session, log), readings=readings)


def stored_behind(history: History, session: str, number: int, event: Event) -> History:
    """Store another event behind one of the log; nobody reads it."""
    log, before = list(history.stored[session]), history.stored[session][number]
    # Between two sequences: text that sorts between theirs.
    log.insert(number + 1, replace(event, offset=before.offset + "+", ts=before.ts + 0.001))
    return with_log(history, session, log)


def a_reading(history: History, rng: Random, *, once: bool | None = None) -> tuple[int, Reading]:
    return rng.choice([(n, r) for n, r in enumerate(history.readings) if once is None or r.once == once])


def got(reading: Reading, rng: Random) -> int:
    """Choose the place of a milestone's delivery."""
    return rng.choice([n for n, s in enumerate(reading.steps) if isinstance(s, Got) and s.event.type not in PASSING])


def a_call(history: History, rng: Random, *whats: str, outcome: str = "ok") -> tuple[int, Call]:
    return rng.choice([(n, c) for n, c in enumerate(history.calls) if c.what in whats and c.outcome == outcome])


def with_call(history: History, number: int, call: Call) -> History:
    return replace(history, calls=[*history.calls[:number], call, *history.calls[number + 1 :]])
