"""What happened while faults were made: all that was called for, all that was delivered, and what is stored in the end.

Times are seconds of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# What a caller was told. "unknown": nothing that says whether it was stored.
Outcome = Literal["ok", "refused", "unknown"]
What = Literal["note", "ask", "answer", "claim", "floor", "cancel"]


@dataclass(frozen=True)
class Event:
    """An event, as delivered or as stored. `at`: of deltas, the text position; `ts`: the broker's time."""

    offset: str
    id: str | None
    type: str
    actor: str
    run: str | None = None
    at: int | None = None
    ts: float = 0.0
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """Something that was asked for, all tries of it. `about`: the request, the run or the offer that it is one
    of several contenders for; `winner`: who was named to one that came too late."""

    who: str
    participant: str
    session: str
    what: What
    id: str
    invoked: float
    done: float | None
    outcome: Outcome
    offset: str | None = None
    about: str | None = None
    winner: str | None = None


@dataclass(frozen=True)
class Opened:
    """A reader began to read, or began again, behind an offset (or at `start`)."""

    at: float
    after: str


@dataclass(frozen=True)
class Got:
    at: float
    event: Event


@dataclass(frozen=True)
class Rewound:
    """A reader was told that what is behind `to` comes again."""

    at: float
    to: str


@dataclass(frozen=True)
class Marked:
    """A reader was told that it has everything up to here."""

    at: float
    offset: str


Step = Opened | Got | Rewound | Marked


@dataclass(frozen=True)
class Reading:
    """What one reader got of one session, in its order. `upto`: how far it was given the time to read. `once`: it was
    to get each event once for all its connections, what fills a hole behind what is newer; what it was told may stand
    before what it had not taken by then."""

    who: str
    session: str
    steps: Sequence[Step]
    upto: str | None = None
    once: bool = False


@dataclass(frozen=True)
class Fault:
    """What was done to whom. `over`: when the last of it had been put right."""

    kind: str
    target: str
    begun: float
    over: float


@dataclass(frozen=True)
class Life:
    """One process. `killed`: when it was ended without having been asked to; None: it lived until the end, or left in
    good order. `frozen` and the like are faults."""

    who: str
    participant: str
    begun: float
    killed: float | None = None


@dataclass(frozen=True)
class Members:
    """Who is in a session when all faults are over; `expected`: who must be."""

    session: str
    found: frozenset[tuple[str, str]]
    expected: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class History:
    """All of one seed. `plans`: what each run has to say, in whole. `stored`: each session's log, read from the leader
    when all faults were over. `load`: from when until when somebody wrote all the while."""

    calls: Sequence[Call]
    readings: Sequence[Reading]
    stored: Mapping[str, Sequence[Event]]
    plans: Mapping[str, str]
    faults: Sequence[Fault]
    lives: Sequence[Life]
    members: Sequence[Members]
    load: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """A promise that was broken: which, by what, and the events (or ids) that show it."""

    rule: str
    what: str
    events: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}" + (f" [{', '.join(self.events)}]" if self.events else "")


DELTAS = frozenset({"TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS"})
# What goes when a message is completed: a reader may have had it or not.
PASSING = DELTAS | {"TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "message.snapshot"}
RUN_ENDS = frozenset({"RUN_FINISHED", "RUN_ERROR"})
