"""Every pause is explained: how long a reader got nothing although somebody wrote, and which fault covers it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.fault.history import Fault, Got, History, Reading, Verdict
from tests.fault.recovery import explains_until

# So much of each pause needs no cause: several writers write ten times a second, and try again within a second or two
# where the broker was away; what is lost on the live path is found within about a second.
LIMIT_S = 3.0
# A fault is noted when it has been made.
_BEFORE_S = 0.5


@dataclass(frozen=True)
class Pause:
    """A time without deliveries to one reader, and the faults that cover some of it; `bare_s`: what none covers."""

    who: str
    session: str
    begun: float
    seconds: float
    by: tuple[str, ...]
    bare_s: float

    def __str__(self) -> str:
        by = ", ".join(self.by) or "nothing"
        return f"{self.seconds:.1f} s to {self.who} in {self.session}: {by}"


def pauses(history: History) -> list[Pause]:
    """Return each reader's longest pause, and all that are not explained; the longest first."""
    found = []
    for reading in history.readings:
        mine = [_explained(reading, a, b, history.faults) for a, b in _gaps(reading, history.load)]
        if mine:
            longest = max(mine, key=lambda pause: pause.seconds)
            found += [pause for pause in mine if pause is longest or pause.bare_s > LIMIT_S]
    return sorted(found, key=lambda pause: -pause.seconds)


def unexplained(history: History) -> Iterator[Verdict]:
    for pause in pauses(history):
        if pause.bare_s > LIMIT_S:
            what = f"{pause}; {pause.bare_s:.1f} s of it are without a cause, from {pause.begun:.1f} on"
            yield Verdict("pause", what)


def _gaps(reading: Reading, load: tuple[float, float]) -> Iterator[tuple[float, float]]:
    begin, end = load
    if not reading.steps:
        return
    # Whoever began in the middle is looked at from there on.
    last = max(begin, reading.steps[0].at)
    for step in reading.steps:
        if isinstance(step, Got) and last < step.at:
            if step.at >= end:
                break
            yield last, step.at
            last = step.at
    if reading.upto is not None and last < end:  # it was there until the end
        yield last, end


def _explained(reading: Reading, begun: float, ended: float, faults: Sequence[Fault]) -> Pause:
    by, bare_s, at = list[str](), 0.0, begun
    for fault in sorted(faults, key=lambda fault: fault.begun):
        if (end := explains_until(fault, reading.who.partition(".")[0])) is None:
            continue
        begin = fault.begun - _BEFORE_S
        if begin < ended and end > at:
            bare_s += max(0.0, begin - at)
            at = min(ended, end)
            by.append(f"{fault.kind} {fault.target}")
    return Pause(reading.who, reading.session, begun, ended - begun, tuple(by), bare_s + (ended - at))
