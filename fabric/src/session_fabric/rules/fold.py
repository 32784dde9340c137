"""Events to messages: the projection of a session (docs/protocol.md, "Folding events to messages").

What comes out depends on what the log holds and not on how it arrived: an event folded twice changes nothing,
a rewind may bring earlier events late, and deltas that are gone are made up for by the completion that
replaced them. An id belongs to whoever used it first in the log: nobody can write into another's message, or hide it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from session_fabric.rules.branches import Node, Selection, Siblings, Tree
from session_fabric.rules.drafts import TEXT_HANDLERS, Drafts, text_in
from session_fabric.rules.lives import RUN_EVENTS, GrowingRun
from session_fabric.rules.messages import STATUS, Delivery, GrowingMessage, Message, Run, Status, ToolCall
from session_fabric.rules.redacted import facts_of
from session_fabric.words import events
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset


class Fold(Drafts):
    """Fold a session's events into its messages and runs; a delta costs O(1), however long the text."""

    def __init__(self) -> None:
        super().__init__()
        self._runs: dict[str, GrowingRun] = {}
        self._superseded: dict[tuple[str, str], Offset] = {}  # by run and message: since when
        self._selected: dict[Offset, str] = {}
        # By message: what became of it (None: a wish to have it answered again), and of which input.
        self._settled: dict[str, dict[Offset, tuple[Delivery | None, str]]] = {}
        self._tree: Tree | None = None  # None: to be made anew

    def add(self, event: Event) -> None:
        """Fold one event; types that the projection does not need, and bodies without ids, change nothing."""
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event, event.body)

    @property
    def runs(self) -> Mapping[str, Run]:
        """The runs in the order of their beginning."""
        return {run.id: run.run() for run in sorted(self._runs.values(), key=lambda run: (run.first, run.id))}

    def messages(self) -> list[Message]:
        """Return all messages in order of first appearance, but for those that are superseded."""
        return [self._message(self._drafts[id]) for id in self._branches().parents]

    def path(self) -> list[Message]:
        """Return the messages that a chat shows: of alternatives the selected one, else the newest."""
        return [self._message(self._drafts[id]) for id in self._branches().path]

    def siblings(self, id: str) -> Siblings:
        """Return the alternatives of a message, itself among them."""
        return self._branches().siblings(id)

    @property
    def superseded(self) -> list[Message]:
        """What failed attempts of steps have said."""
        return [self._message(d) for d in sorted(self._drafts.values(), key=_place) if self._is_superseded(d)]

    def message(self, id: str) -> Message | None:
        """Return one message as far as it is known."""
        draft = self._drafts.get(id)
        return None if draft is None else self._message(draft)

    def without_content(self, id: str) -> dict[str, Any] | None:
        """Return what a redaction leaves of a message, as its event says it; None where there is no such message."""
        draft = self._drafts.get(id)
        return None if draft is None else facts_of(draft, self._message(draft).role)

    def text(self, id: str) -> str:
        """Return a message's text so far (`""`: none): where a run that is taken over goes on."""
        draft = self._drafts.get(id)
        return "" if draft is None else draft.text.value

    def _message(self, draft: GrowingMessage) -> Message:
        run = self._run_of(draft)
        status: Status = "completed" if draft.done else "open" if run is None else STATUS[run.state]
        calls = [self._calls[id] for id in draft.call_ids() if id not in self._redacted_calls]
        return Message(
            id=draft.id,
            role=draft.role or ("reasoning" if draft.thinks and not calls else "assistant"),
            actor=draft.actor,
            run=draft.run,
            content=draft.text.value if draft.parts is None else draft.parts,
            reasoning=draft.reasoning.value,
            tool_calls=tuple(ToolCall(c.id, c.name, c.args.value, c.result) for c in calls),
            status=status,
            first=draft.first,
            last=draft.last,
            parent=self._branches().parents.get(draft.id),
            delivery=self._delivery(draft.id) if draft.said else None,
            redacted=draft.redacted,
        )

    def _moved(self) -> None:
        self._tree = None

    def _was_superseded(self, run: str | None, id: str) -> bool:
        return (run, id) in self._superseded

    def _run_of(self, draft: GrowingMessage) -> GrowingRun | None:
        return None if draft.run is None else self._runs.get(draft.run)

    def _is_superseded(self, draft: GrowingMessage) -> bool:
        """Say whether it is of a failed attempt. One that was begun again under its id is a message again."""
        since = None if draft.run is None else self._superseded.get((draft.run, draft.id))
        return since is not None and draft.last < since

    def _branches(self) -> Tree:
        if self._tree is None:
            nodes = [self._node(draft) for draft in self._drafts.values() if not self._is_superseded(draft)]
            self._tree = Tree(nodes, [Selection(*item) for item in self._selected.items()])
        return self._tree

    def _node(self, draft: GrowingMessage) -> Node:
        if draft.said:
            return Node(draft.first, draft.id, None, None, True, draft.named)
        run = self._run_of(draft)
        return Node(draft.first, draft.id, draft.run, run.message if run else None, False, ...)

    def _delivery(self, id: str) -> Delivery | None:
        settled = self._settled.get(id, {})
        again = {str(at) for at, (word, _) in settled.items() if word is None}
        # What became of the wish to have it answered again is not what became of the message.
        of_its_own = [at for at, (word, input) in settled.items() if word is not None and input not in again]
        return settled[max(of_its_own)][0] if of_its_own else None

    # --- handlers, by type ------------------------------------------------------------------------

    def _run(self, event: Event, body: Mapping[str, Any]) -> None:
        id = event.run or body.get("run") or body.get("runId")
        if not isinstance(id, str):
            return
        run = self._runs.get(id)
        if run is None:
            run = self._runs[id] = GrowingRun(id, event)
        run.add(event, body)
        if event.type == events.RUN_STARTED:
            self._moved()

    def _step(self, event: Event, body: Mapping[str, Any]) -> None:
        gone = body.get("supersedes")
        if event.run is None or not isinstance(gone, list):
            return
        for id in gone:
            if isinstance(id, str):
                key = (event.run, id)
                self._superseded[key] = max(event.offset, self._superseded.get(key, event.offset))
        self._moved()

    def _select(self, event: Event, body: Mapping[str, Any]) -> None:
        if isinstance(body.get("message"), str):
            self._selected[event.offset] = body["message"]
            self._moved()

    def _settle(self, event: Event, body: Mapping[str, Any]) -> None:
        if isinstance(body.get("message"), str):
            word = _DELIVERIES[event.type]
            self._settled.setdefault(body["message"], {})[event.offset] = (word, text_in(body.get("input")))


def _place(draft: GrowingMessage) -> tuple[Offset, str]:
    return draft.first, draft.id


_DELIVERIES: Final[Mapping[str, Delivery | None]] = {
    events.MESSAGE_STEERED: "steered",
    events.MESSAGE_REJECTED: "rejected",
    events.MESSAGE_EXPIRED: "expired",
    events.MESSAGE_REGENERATE: None,
}

_HANDLERS: Final[Mapping[str, Callable[[Fold, Event, Mapping[str, Any]], None]]] = {
    **TEXT_HANDLERS,
    events.STEP_STARTED: Fold._step,
    events.BRANCH_SELECTED: Fold._select,
    **dict.fromkeys(_DELIVERIES, Fold._settle),
    **dict.fromkeys(RUN_EVENTS, Fold._run),
}
