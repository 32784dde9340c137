"""A run as the AG-UI events of one reader: what `Telling` tells, in an order that AG-UI's clients accept.

Those are strict: what begins must end before the run does, nothing is said of what has not begun. So what a reader
was told to be open is kept here. A stream may end before its run: at a question that its reader may answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from session_fabric import FabricError, Offset
from session_fabric.rules.requests import ASKED, SETTLED
from session_fabric.rules.routing import is_reserved
from session_fabric.words import events
from session_fabric.words.positions import ZERO, After
from session_fabric.words.wire import Record

from session_fabric_gateway.dialects.ag_ui.interrupts import Question, interrupt, question_of, response_schema
from session_fabric_gateway.dialects.ag_ui.parts import Parts
from session_fabric_gateway.dialects.ag_ui.places import Place
from session_fabric_gateway.dialects.ag_ui.saying import Said, failed, failure, finished
from session_fabric_gateway.dialects.telling import Closed, Happened, Opened, Over, Piece, Telling, Told

Frame = Callable[[bytes, str], bytes]  # an event as JSON, and its id

# What an agent writes of AG-UI that everybody reads as it is.
_AS_IT_IS: Final = ("STATE_", "ACTIVITY_", "CUSTOM", "RAW", "REASONING_ENCRYPTED_VALUE")


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be told: run `of`, read behind `before`, by the reader's own names for thread and run.

    `prefix`: events that go before everything. `place`: of a reader who comes back, and gets what is behind it.
    `since`: of one who has answered what the run asked, where the answer stands: what the run said before it asked was
    told in another stream. `answered`: requests that he has dealt with. `given`: calls whose results he has himself.
    """

    of: str
    before: After
    thread: str
    run: str
    prefix: Sequence[Said] = ()
    place: Place | None = None
    since: Offset | None = None
    answered: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()


class Speaker(Parts):
    """Tells a turn to one reader; a `pouring.Teller`.

    `eager`: as TanStack's clients want it, whose messages begin with the first word, thoughts included, and go on
    after a pause without beginning anew. `hidden`: messages that are not told. `known`: up to here he was told before,
    and is told anew: that has no ids, since a client drops what comes twice under one.
    """

    def __init__(
        self,
        turn: Turn,
        participant: str,
        frame: Frame,
        *,
        eager: bool,
        hidden: frozenset[str] = frozenset(),
        known: Offset | None = None,
    ) -> None:
        super().__init__(eager=eager, hidden=hidden, given=turn.given)
        self.thread = turn.thread
        self.run = turn.run
        self.over = False
        self.replaced = hidden  # with what a failed attempt has said: then it is to be told anew
        self.again = False  # it is to be told anew, from its beginning
        self.steered: str | None = None  # the run that has taken the input over
        self._turn = turn
        self._start = turn.before if isinstance(turn.before, Offset) else ZERO
        self._participant = participant
        self._frame = frame
        self._prefix = list(turn.prefix)
        self._place = turn.place
        self._since = turn.since
        self._known = known
        self._telling = Telling(turn.of)
        self.newest = self._start
        self._live = False
        self._suspended = False
        self._asked: dict[str, Question] = {}
        self._held: list[bytes] = []  # told since the run asked something, in case that is where it was asked last

    # --- pouring.Teller -------------------------------------------------------------------------------

    def tell(self, records: Sequence[Record]) -> bytes:
        """Return what these events are to the reader. None of them: everything that is stored has been told."""
        out = self._begin_stream()
        for record in records:
            if self.over:
                break
            out += self._one(record)
        self._live = self._live or not records
        if self._live and not self.over and self._waits_for_reader():
            out += self._pause()
        return b"".join(out)

    def failed(self, error: FabricError) -> bytes:
        """Say that the stream cannot go on."""
        self.over = True
        return b"".join([*self._begin_stream(), self._frame(orjson.dumps(failure(error, self.thread, self.run)), "")])

    def _begin_stream(self) -> list[bytes]:
        prefix, self._prefix = self._prefix, []
        place = Place(self._start, False, {}).spell()
        return [self._frame(orjson.dumps(event), place if event["type"] == "RUN_STARTED" else "") for event in prefix]

    # --- one event of the log ---------------------------------------------------------------------------

    def _one(self, record: Record) -> list[bytes]:
        offset = self.newest = record.offset
        place = self._place
        silent = False
        if place is not None:
            silent = offset < place.offset or (place.whole and offset == place.offset)
            if not silent:
                self._come_back(place)
        if self._since is not None and offset >= self._since:
            self._since = None
            held, self._held = self._held, []
            return [*held, *self._one(record)]
        for told in self._telling.add(record):
            self._tell(told)
        again = place is not None and not place.whole and offset == place.offset
        framed = self._framed(offset, place.number + 1 if place is not None and again else 0)
        if silent:
            return []
        if self._since is not None:
            self._held += framed
            return []
        return framed

    def _framed(self, offset: Offset, first: int = 0) -> list[bytes]:
        """Give what is to go out its ids: only the last event of one in the log says that it was told whole."""
        out, self.out = self.out, []
        if self._known is not None and offset <= self._known:
            return [self._frame(event, "") for event, _ in out]
        last = len(out) - 1
        places = [
            "" if stand is None else Place(offset, number == last, stand.units, first + number, stand.open).spell()
            for number, (_, stand) in enumerate(out)
        ]
        return [self._frame(event, place) for (event, _), place in zip(out, places, strict=True)]

    def _come_back(self, place: Place) -> None:
        """Take it that the reader has had what his place says."""
        self._place = None
        self._units = dict(place.units)
        self._telling.seed(place.units)
        self._began.update(of for of, part in place.units if part == "text")
        self._open = dict.fromkeys(key for key in place.units if key in place.open)

    def _tell(self, told: Told) -> None:
        match told:
            case Opened(message, role):
                self._opened(message, role)
            case Piece(of, part, text):
                self._piece(of, part, text)
            case Closed(message):
                self._closed(message)
            case Happened(type, body):
                handler = _HANDLERS.get(type)
                if handler is not None:
                    handler(self, told)
                elif type.startswith(_AS_IT_IS):
                    self._put(dict(body))
                elif not is_reserved(type) and not type.isupper():
                    self._put({"type": "CUSTOM", "name": type, "value": body})
            case Over():
                self._ended(told)

    def _attempted(self, told: Happened) -> None:
        """A step begins; where that hides what a failed attempt has said, all is told anew, without it."""
        gone = told.body.get("supersedes")
        if isinstance(gone, list) and self._place is None:
            new = frozenset(id for id in gone if isinstance(id, str) and id in self._began) - self._hidden
            if new:
                self.replaced |= new
                self._close_all()
                self.over = self.again = True
                return
        self._step_started(told)

    # --- what it asks -----------------------------------------------------------------------------------

    def _request_asked(self, told: Happened) -> None:
        question = question_of(told.body, self._turn.of, told.ts)
        if question is not None:
            self._asked[question.request] = question

    def _request_settled(self, told: Happened) -> None:
        self._asked.pop(str(told.body.get("request")), None)

    def _was_suspended(self, told: Happened) -> None:
        self._suspended = True
        if self._since is not None:
            # Here the stream before this one has ended, with everything closed.
            self._close_all()
            self.out.clear()
            self._held.clear()

    def _goes_on(self, told: Happened) -> None:
        self._suspended = False

    def _questions(self) -> list[Question]:
        left = (question for id, question in self._asked.items() if id not in self._turn.answered)
        return [question for question in left if question.is_for(self._participant)]

    def _waits_for_reader(self) -> bool:
        return self._suspended and self._since is None and self._place is None and bool(self._questions())

    def _pause(self) -> list[bytes]:
        """End the stream at what the run asks of its reader."""
        self._close_all()
        self.over = True
        questions = self._questions()
        tools = [question for question in questions if question.kind == "tool"]
        asks = [question for question in questions if question.kind != "tool"]
        if self._eager:
            for question in tools:
                body = question.body
                value = {"toolCallId": question.call, "toolName": body.get("tool"), "input": body.get("args")}
                self._put({"type": "CUSTOM", "name": "tool-input-available", "value": value})
        if asks:
            self._put(
                finished(
                    {"type": "interrupt", "interrupts": [self._interrupt(one) for one in asks]}, self.thread, self.run
                )
            )
        else:
            pending = {} if self._eager else {"pendingToolCallIds": [question.call for question in tools]}
            self._put(finished({"type": "success", **pending}, self.thread, self.run))
        return self._framed(self.newest)

    def _interrupt(self, question: Question) -> Said:
        spelled = interrupt(question, self.run)
        schema = None if self._eager else response_schema(question)
        return spelled if schema is None else {**spelled, "responseSchema": schema}

    # --- its end ----------------------------------------------------------------------------------------

    def _ended(self, told: Over) -> None:
        body = told.body
        self.over = True
        if told.type == events.MESSAGE_STEERED and isinstance(body.get("run"), str):
            self.steered = body["run"]
            return
        self._close_all()
        if told.type == events.RUN_FINISHED:
            outcome = body.get("outcome")
            cancelled = isinstance(outcome, dict) and outcome.get("type") == "cancelled"
            more = {name: body[name] for name in ("result", "usage") if body.get(name) is not None}
            self._put(finished({"type": "cancelled" if cancelled else "success"}, self.thread, self.run, **more))
        elif told.type == events.RUN_ERROR:
            code = str(body.get("code") or "failed")
            self._put(failed(str(body.get("message") or "The run failed."), code, self.thread, self.run))
        else:
            reason = str(body.get("reason") or "rejected")
            self._put(failed(_NO_RUN.get(reason, "No agent has taken it."), reason, self.thread, self.run))


_NO_RUN: Final[Mapping[str, str]] = {
    "busy": "The agent is at work, and takes no message meanwhile.",
    "no_agent": "No agent has taken the message in time.",
}
_HANDLERS: Final[Mapping[str, Callable[[Speaker, Happened], None]]] = {
    "TOOL_CALL_START": Speaker._call_started,
    "TOOL_CALL_END": Speaker._call_ended,
    "TOOL_CALL_RESULT": Speaker._call_result,
    events.STEP_STARTED: Speaker._attempted,
    events.STEP_FINISHED: Speaker._step_finished,
    events.RUN_SUSPENDED: Speaker._was_suspended,
    events.RUN_RESUMED: Speaker._goes_on,
    events.RUN_TAKEN_OVER: Speaker._goes_on,
    **dict.fromkeys(ASKED, Speaker._request_asked),
    **dict.fromkeys(SETTLED, Speaker._request_settled),
}
