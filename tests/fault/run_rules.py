"""What runs say, who may write them, and that they end: rules over logs and readings. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.fault.history import DELTAS, PASSING, RUN_ENDS, Event, Got, History, Verdict

# What only the process that has the run writes in its name.
_WRITERS = PASSING | {"message.completed", "RUN_FINISHED", "STEP_STARTED", "STEP_FINISHED", "run.suspended"}
# What became of an input that got no run of its own.
_NO_RUN = frozenset({"message.steered", "message.rejected", "message.expired"})


class Texts:
    """Folds a session's events, in the order in which they came, to the text of each run's messages.

    By docs/protocol.md, "Folding events to messages"; positions count UTF-16 code units.
    """

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._whole: set[str] = set()
        self._early: dict[str, list[tuple[int, bytes]]] = {}
        self._of_run: dict[str, list[str]] = {}
        self._hidden: set[str] = set()

    def add(self, event: Event) -> None:
        if event.type == "TEXT_MESSAGE_CONTENT" and event.at is not None:
            message = str(event.body["messageId"])
            self._know(event.run, message)
            self._piece(message, event.at, event.body["delta"].encode("utf-16-le"))
        elif event.type == "message.snapshot":
            message, text = _said(event)
            self._know(event.run, message)
            if message not in self._whole and len(text) > len(self._texts[message]):
                self._texts[message] = text
                self._later(message)
        elif event.type == "message.completed":
            message, text = _said(event)
            self._know(event.run, message)
            self._texts[message] = text
            self._whole.add(message)
        elif event.type in ("STEP_STARTED", "STEP_FINISHED"):
            self._hidden.update(event.body.get("supersedes") or ())

    def of(self, run: str) -> str:
        """What a run has said, one message after the other."""
        said = (self._texts[m] for m in self._of_run.get(run, ()) if m not in self._hidden)
        return b"".join(said).decode("utf-16-le")

    def _know(self, run: str | None, message: str) -> None:
        if message not in self._texts:
            self._texts[message] = b""
            self._of_run.setdefault(run or "", []).append(message)

    def _piece(self, message: str, at: int, piece: bytes) -> None:
        if message in self._whole:
            return
        text = self._texts[message]
        if at * 2 > len(text):
            self._early.setdefault(message, []).append((at, piece))
        elif at * 2 + len(piece) > len(text):
            self._texts[message] = text + piece[len(text) - at * 2 :]
            self._later(message)

    def _later(self, message: str) -> None:
        for at, piece in self._early.pop(message, []):
            self._piece(message, at, piece)


def _said(event: Event) -> tuple[str, bytes]:
    message = event.body["message"]
    return str(message["id"]), str(message["content"]).encode("utf-16-le")


def texts(history: History) -> Iterator[Verdict]:
    """A completed run has said what its writer sent, and nothing else; one that failed or goes on, a part from the
    beginning of it. So say the log and every reader."""
    for session, stored in history.stored.items():
        success = {e.run for e in stored if e.type == "RUN_FINISHED" and _succeeded(e)}
        runs = [run for run in _runs(stored) if run in history.plans]
        sources: list[tuple[str, Iterable[Event], str | None]] = [("the log", stored, None)]
        for reading in history.readings:
            if reading.session == session:
                got = [step.event for step in reading.steps if isinstance(step, Got)]
                sources.append((reading.who, got, reading.upto or ""))
        for whose, events, upto in sources:
            yield from _compare(whose, session, events, upto, runs, success, history.plans)


def _compare(
    whose: str,
    session: str,
    events: Iterable[Event],
    upto: str | None,
    runs: Sequence[str],
    success: set[str | None],
    plans: Mapping[str, str],
) -> Iterator[Verdict]:
    """`upto` None: all is there; else a run counts as completed for a reader that has its end."""
    fold, ended, last = Texts(), set[str | None](), ""
    for event in events:
        fold.add(event)
        last = event.offset
        if event.type in RUN_ENDS:
            ended.add(event.run)
    for run in runs:
        said, plan = fold.of(run), plans[run]
        whole = run in success and (upto is None or (run in ended and bool(upto)))
        if whole and said != plan:
            yield Verdict("text", f"{whose}, {session}: {run} has said {_where(said, plan)}", (last,))
        elif not plan.startswith(said):
            yield Verdict("text", f"{whose}, {session}: {run}, in part, {_where(said, plan)}", (last,))


def _where(said: str, plan: str) -> str:
    at = next((n for n, (one, other) in enumerate(zip(said, plan, strict=False)) if one != other), None)
    at = min(len(said), len(plan)) if at is None else at
    return f"{len(said)} of {len(plan)} characters, other ones from {at}: {said[at : at + 20]!r}"


def _succeeded(event: Event) -> bool:
    outcome = event.body.get("outcome")
    return not isinstance(outcome, Mapping) or outcome.get("type") in (None, "success")


def _runs(stored: Sequence[Event]) -> list[str]:
    return [e.run for e in stored if e.type == "RUN_STARTED" and e.run is not None]


def writers(session: str, stored: Sequence[Event]) -> Iterator[Verdict]:
    """One start a run, generations that rise by one, nothing of a writer before the newest, nothing behind the end."""
    owner, generation, ended = dict[str, str](), dict[str, int](), dict[str, str]()
    for event in stored:
        run = event.run
        if run is None:
            continue
        if event.type == "RUN_STARTED":
            if run in owner:
                yield Verdict("winner", f"{session}: {run} was begun twice", (event.offset,))
            owner[run], generation[run] = event.actor, int(event.body.get("generation", 1))
        elif event.type == "run.taken_over":
            if run in ended:
                yield Verdict("stale", f"{session}: {run} was taken over behind its end", (ended[run], event.offset))
            if event.body.get("generation") != generation.get(run, 0) + 1:
                what = f"{session}: {run} has generation {event.body.get('generation')} behind {generation.get(run)}"
                yield Verdict("winner", what, (event.offset,))
            owner[run], generation[run] = event.actor, int(event.body.get("generation", 0))
        elif event.type in _WRITERS or event.type in RUN_ENDS:
            if run in ended:
                yield Verdict("stale", f"{session}: {event.type} of {run} behind its end", (ended[run], event.offset))
            # What a run leaves when nobody has it any more is written by the fabric, or by whom it was taken from.
            if event.actor.startswith("agent:") and event.type in _WRITERS and owner.get(run) != event.actor:
                what = f"{session}: {event.type} of {run} by {event.actor}, which was {owner.get(run)}'s"
                yield Verdict("stale", what, (event.offset,))
            if event.type in RUN_ENDS:
                ended[run] = event.offset


def ends(history: History) -> Iterator[Verdict]:
    """Each run comes to an end, and so does each input that was acknowledged."""
    for session, stored in history.stored.items():
        over = {event.run for event in stored if event.type in RUN_ENDS}
        for event in stored:
            if event.type == "RUN_STARTED" and event.run not in over:
                yield Verdict("end", f"{session}: {event.run} has no end", (event.offset,))
        begun = set(_runs(stored))
        told = {event.body.get("message") for event in stored if event.type in _NO_RUN}
        told |= {event.body.get("input") for event in stored if event.type in _NO_RUN}
        for call in history.calls:
            if (call.session, call.what, call.outcome) != (session, "ask", "ok"):
                continue
            if run_of(call.id) not in begun and call.id not in told and call.offset not in told:
                yield Verdict("end", f"{session}: nothing came of {call.id}", (str(call.offset),))


def run_of(input_id: str) -> str:
    """Return the id of the run that answers an input, as docs/protocol.md, section 3, has it."""
    return "run-" + hashlib.sha256(input_id.encode()).hexdigest()[:24]


def deltas_of(events: Iterable[Event]) -> int:
    return sum(event.type in DELTAS for event in events)
