"""A run as the AI SDK's UI message chunks: one assistant message a run, whose id is the run's. Pure.

A step ends when what its tools gave is followed by more. Tools of the agent's count as executed by the provider, since
no page is to run them; what a run asks of this participant becomes a tool part that the page answers, and ends the
stream with `tool-calls` until it does. The wire was read in `ai` 7.0.173 and 6.0.325.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, assert_never

from session_fabric.words import events
from session_fabric.words.positions import Offset
from session_fabric.words.wire import Record

from session_fabric_gateway.dialects.ai_sdk.parts import Parts, Reader
from session_fabric_gateway.dialects.telling import Closed, Happened, Opened, Over, Part, Piece, Telling, Told

_REFUSALS: Final = {"busy": "an agent is at work, and what comes meanwhile is rejected", "no_agent": "no agent took it"}


class Pause(NamedTuple):
    """Where a run waits for this participant, for the first time for the tool parts `parts` (ids of calls).

    `told`: how much of each text was told by then.
    """

    offset: Offset
    parts: frozenset[str]
    told: Mapping[tuple[str, Part], int]


class Settled(NamedTuple):
    """What was asked up to an offset has been answered, but for the requests that are `open`."""

    upto: Offset
    open: frozenset[str]


class Chunks(Parts):
    """Make chunks of a run's events; `upto`: what is up to there is known to the client, and not said again.

    `settled`: what it says to be answered ends nothing: behind that the run has gone on, or will.
    `endless`: it goes on behind what the run has waited for. `over`: no more comes. `pauses`: where the run has waited.
    `took`: the run that took the input.
    """

    def __init__(
        self,
        run: str,
        reader: Reader,
        upto: Offset | None = None,
        *,
        settled: Settled | None = None,
        endless: bool = False,
    ) -> None:
        super().__init__(run, reader)
        self._settled = settled
        self._endless = endless
        self.over = False
        self.took: str | None = None
        self.pauses: list[Pause] = []
        self._telling = Telling(run)
        self._upto = upto
        self._suspended = False
        self._shown: set[str] = set()
        self._asked_at: dict[str, Offset] = {}
        self._joining = upto is not None

    @property
    def told(self) -> Mapping[tuple[str, Part], int]:
        return self._telling.told

    def seed(self, told: Mapping[tuple[str, Part], int]) -> None:
        """Take it that so much of the texts is known: the pieces may be gone, and the whole come behind `upto`."""
        self._telling.seed(told)

    def add(self, record: Record) -> list[bytes]:
        """Return the chunks, each as JSON, that an event adds."""
        if self.over:
            return []
        known = self._upto is not None and record.offset <= self._upto
        if self._joining and not known:  # what follows opens what it says
            self._joining = False
            self._end_parts()
            self._end_step()
            self._out, self._started = [], False
        for told in self._telling.add(record):
            self._tell(told)
        for request in self._asked:
            self._asked_at.setdefault(request, record.offset)
        if not known:
            self._settle()
        if self._suspended and self._asked.keys() - self._shown:
            new = frozenset(part for request, part in self._asked.items() if request not in self._shown)
            self._shown |= self._asked.keys()
            self.pauses.append(Pause(record.offset, new, self._telling.told))
            self._pause(record.offset)
            self.over = not known and not self._endless
        out, self._out = self._out, []
        if known:
            self._started = False  # what follows begins by saying of which message it is
            return []
        return out

    def _settle(self) -> None:
        """Wait for nothing that was answered before this was told."""
        settled = self._settled
        if settled is not None:
            for request in self._asked.keys() - self._shown - settled.open:
                if self._asked_at[request] <= settled.upto:
                    del self._asked[request]

    # --- what is told -------------------------------------------------------------------------------

    def _tell(self, told: Told) -> None:
        match told:
            case Opened():
                pass  # a part begins with its first text
            case Piece():
                self._piece(told)
            case Closed(message):
                self._end_parts(message)
            case Happened():
                handler = _HANDLERS.get(told.type)
                if handler is not None:
                    handler(self, told)
            case Over():
                self._end(told)
            case _:
                assert_never(told)

    def _run_started(self, _: Happened) -> None:
        self._begin()

    def _custom(self, told: Happened) -> None:
        name = told.body.get("name")
        if isinstance(name, str) and name:
            self._say(f"data-{name}", id=told.id, data=told.body.get("value"))

    def _attempt(self, told: Happened) -> None:
        if told.body.get("supersedes"):
            self._end_parts()
            self._calls.clear()
            self._pending.clear()
            self._asked.clear()
            if self._reader.version >= 7:
                self._say("reset-step")

    def _moved(self, told: Happened) -> None:
        self._suspended = told.type == events.RUN_SUSPENDED

    # --- its ends -----------------------------------------------------------------------------------

    def _pause(self, offset: Offset) -> None:
        self._end_parts()
        self._end_step()
        self._say("finish", finishReason="tool-calls", messageMetadata=self._metadata(offset))

    def _end(self, over: Over) -> None:
        self.over = True
        body = over.body
        match over.type:
            case events.RUN_FINISHED:
                self._finish(over)
            case events.RUN_ERROR:
                self._put("error", errorText=f"{body.get('code', 'failed')}: {body.get('message', 'The run failed.')}")
            case events.MESSAGE_STEERED:
                took = body.get("run")
                self.took = took if isinstance(took, str) else None
            case _:
                reason = str(body.get("reason", over.type))
                self._put("error", errorText=f"{reason}: {_REFUSALS.get(reason, 'the message was not taken')}.")

    def _finish(self, over: Over) -> None:
        outcome = over.body.get("outcome")
        kind = outcome.get("type", "success") if isinstance(outcome, dict) else "success"
        self._end_parts()
        for id in sorted(self._pending):
            self._gave(id, "tool-output-error", errorText="run_closed: the run ended before.")
        if self._outputs:  # a last step whose tools have all answered is sent again by itself
            self._pending.clear()
            self._begin_step()
        self._end_step()
        metadata = self._metadata(over.offset, outcome=kind, usage=over.body.get("usage"))
        if kind == "success":
            self._say("finish", finishReason="stop", messageMetadata=metadata)
        else:
            self._say("abort", reason=str(kind))
            reason = "interrupted" if self._reader.version >= 7 else "other"
            self._say("finish", finishReason=reason, messageMetadata=metadata)


_HANDLERS: Final[Mapping[str, Callable[[Chunks, Happened], None]]] = {
    events.RUN_STARTED: Chunks._run_started,
    events.RUN_SUSPENDED: Chunks._moved,
    events.RUN_RESUMED: Chunks._moved,
    events.RUN_TAKEN_OVER: Chunks._moved,
    events.STEP_STARTED: Chunks._attempt,
    "CUSTOM": Chunks._custom,
    "TOOL_CALL_START": Chunks._call_started,
    "TOOL_CALL_END": Chunks._call_ended,
    "TOOL_CALL_RESULT": Chunks._result,
    events.TOOL_REQUESTED: Chunks._tool_requested,
    events.INPUT_REQUESTED: Chunks._input_requested,
    events.TOOL_ANSWERED: Chunks._answered,
    events.INPUT_ANSWERED: Chunks._answered,
    events.TOOL_EXPIRED: Chunks._expired,
    events.INPUT_EXPIRED: Chunks._expired,
}
