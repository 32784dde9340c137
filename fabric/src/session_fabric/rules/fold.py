"""Events to messages: the projection of a session (docs/protocol.md, "Folding events to messages").

What comes out depends on what the log holds and not on how it arrived: an event folded twice changes nothing,
a rewind may bring earlier events late, and deltas that are gone are made up for by the completion that
replaced them. An id belongs to whoever used it first in the log: nobody can write into another's message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from session_fabric.rules.messages import (
    STATUS,
    GrowingCall,
    GrowingMessage,
    Message,
    Run,
    RunState,
    Status,
    ToolCall,
)
from session_fabric.rules.texts import Text
from session_fabric.words import events
from session_fabric.words.events import Event


class Fold:
    """Fold a session's events into its messages and runs; a delta costs O(1), however long the text."""

    def __init__(self) -> None:
        self._drafts: dict[str, GrowingMessage] = {}
        self._calls: dict[str, GrowingCall] = {}
        self._runs: dict[str, Run] = {}

    def add(self, event: Event) -> None:
        """Fold one event; types that the projection does not need, and bodies without ids, change nothing."""
        handler = _HANDLERS.get(event.type)
        if handler is not None:
            handler(self, event, event.body)

    @property
    def runs(self) -> Mapping[str, Run]:
        return self._runs

    def messages(self) -> list[Message]:
        """Return all messages in order of first appearance."""
        return [self._message(d) for d in sorted(self._drafts.values(), key=lambda draft: draft.first)]

    def message(self, id: str) -> Message | None:
        """Return one message as far as it is known."""
        draft = self._drafts.get(id)
        return None if draft is None else self._message(draft)

    def text(self, id: str) -> str:
        """Return a message's text so far (`""`: none): where a run that is taken over goes on."""
        draft = self._drafts.get(id)
        return "" if draft is None else draft.text.value

    def _message(self, draft: GrowingMessage) -> Message:
        run = None if draft.run is None else self._runs.get(draft.run)
        status: Status = "completed" if draft.done else "open" if run is None else STATUS[run.state]
        calls = [self._calls[id] for id in draft.call_ids()]
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
        )

    def _draft(self, event: Event, id: object, *, said: bool = False) -> GrowingMessage | None:
        """Return the message that an event writes into, or None where it may not, or names none."""
        if not isinstance(id, str):
            return None
        draft = self._drafts.get(id)
        stranger = draft is not None and (draft.said != said or (said and draft.actor != event.actor))
        if draft is None or (stranger and event.offset < draft.first):
            draft = self._drafts[id] = GrowingMessage(id, event, said)
        elif stranger:
            return None
        draft.touch(event)
        return draft

    def _call(self, id: str) -> GrowingCall:
        call = self._calls.get(id)
        if call is None:
            call = self._calls[id] = GrowingCall(id)
        return call

    # --- handlers, by type ------------------------------------------------------------------------

    def _text_started(self, event: Event, body: Mapping[str, Any]) -> None:
        draft = self._draft(event, body.get("messageId"))
        if draft is not None and draft.done is None:
            draft.role = _text(body.get("role")) or "assistant"

    def _text_delta(self, event: Event, body: Mapping[str, Any]) -> None:
        draft = self._draft(event, body.get("messageId"))
        if draft is not None:
            draft.role = draft.role or "assistant"
            _put(draft.text, event, body)

    def _reasoning_delta(self, event: Event, body: Mapping[str, Any]) -> None:
        draft = self._draft(event, body.get("messageId"))
        if draft is not None:
            draft.thinks = True
            _put(draft.reasoning, event, body)

    def _reasoning_started(self, event: Event, body: Mapping[str, Any]) -> None:
        draft = self._draft(event, body.get("messageId"))
        if draft is not None:
            draft.thinks = True

    def _touched(self, event: Event, body: Mapping[str, Any]) -> None:
        self._draft(event, body.get("messageId"))

    def _snapshot(self, event: Event, body: Mapping[str, Any]) -> None:
        message = _object(body.get("message"))
        draft = self._draft(event, message.get("id"))
        if draft is None or draft.done is not None:
            return
        draft.begin(body.get("began"))
        content, reasoning = _split(message)
        draft.role = _text(message.get("role")) or draft.role or "assistant"
        draft.text.cover(_text(content))
        draft.reasoning.cover(reasoning)
        for call, _, args in self._tool_calls(message) or ():
            call.args.cover(args)

    def _completed(self, event: Event, body: Mapping[str, Any]) -> None:
        said = event.type == events.MESSAGE_USER
        message = _object(body.get("message"))
        draft = self._draft(event, message.get("id"), said=said)
        if draft is None or (draft.done is not None and event.offset < draft.done):
            return
        content, reasoning = _split(message)
        draft.done = event.offset
        if not said:
            draft.begin(body.get("began"))
        draft.role = "user" if said else _text(message.get("role")) or draft.role or "assistant"
        draft.text.finish(_text(content))
        draft.parts = content if isinstance(content, list) and content else None
        draft.reasoning.finish(reasoning)
        calls = self._tool_calls(message)
        draft.listed = None if calls is None else [call.id for call, _, _ in calls]
        for call, name, args in calls or ():
            call.name = name or call.name
            call.args.finish(args)

    def _tool_calls(self, message: Mapping[str, Any]) -> list[tuple[GrowingCall, str, str]] | None:
        """Read AG-UI's `toolCalls` of a message: `[{"id":…,"function":{"name":…,"arguments":…}}]`."""
        found = message.get("toolCalls")
        if not isinstance(found, list):
            return None
        calls = []
        for item in map(_object, found):
            function = _object(item.get("function"))
            if isinstance(item.get("id"), str):
                call = self._call(item["id"])
                calls.append((call, _text(function.get("name")), _text(function.get("arguments"))))
        return calls

    def _tool_started(self, event: Event, body: Mapping[str, Any]) -> None:
        id = body.get("toolCallId")
        if not isinstance(id, str):
            return
        # AG-UI: a call without a parent makes a message of its own.
        draft = self._draft(event, body.get("parentMessageId") or id)
        if draft is not None:
            call = self._call(id)
            call.name = call.name or _text(body.get("toolCallName"))
            draft.attached.setdefault(id, event.offset)

    def _tool_delta(self, event: Event, body: Mapping[str, Any]) -> None:
        if isinstance(body.get("toolCallId"), str):
            _put(self._call(body["toolCallId"]).args, event, body)

    def _tool_ended(self, event: Event, body: Mapping[str, Any]) -> None:
        # `args`, the fabric's addition to AG-UI's event, makes up for deltas that are gone.
        if isinstance(body.get("toolCallId"), str) and isinstance(body.get("args"), str):
            self._call(body["toolCallId"]).args.finish(body["args"])

    def _tool_result(self, event: Event, body: Mapping[str, Any]) -> None:
        if isinstance(body.get("toolCallId"), str):
            call = self._call(body["toolCallId"])
            if call.result_at is None or event.offset >= call.result_at:
                call.result, call.result_at = body.get("content"), event.offset

    def _run(self, event: Event, body: Mapping[str, Any]) -> None:
        id = event.run or body.get("run") or body.get("runId")
        if not isinstance(id, str):
            return
        known = self._runs.get(id)
        if known is None or event.offset > known.since:
            agent = _text(body.get("agent")) or (known.agent if known is not None else event.actor)
            self._runs[id] = Run(id, _run_state(event.type, body), agent, event.offset)


def _run_state(type: str, body: Mapping[str, Any]) -> RunState:
    if type == events.RUN_FINISHED:
        outcome = body.get("outcome")
        kind = outcome.get("type") if isinstance(outcome, dict) else outcome
        return "completed" if kind in (None, "success") else "cancelled"
    return _RUN_STATES[type]


def _put(text: Text, event: Event, body: Mapping[str, Any]) -> None:
    piece = _text(body.get("delta"))
    if event.at is None:
        text.put_loose(event.offset, piece)
    else:
        text.put(event.at, piece)


def _split(message: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a message's content and reasoning; of AG-UI's reasoning messages the content is that."""
    if message.get("role") == "reasoning":
        return "", _text(message.get("content"))
    return message.get("content"), _text(message.get("reasoning"))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


_RUN_STATES: Final[Mapping[str, RunState]] = {
    events.RUN_CLAIMED: "claimed",
    events.RUN_TAKEN_OVER: "claimed",
    events.RUN_ORPHANED: "orphaned",
    events.RUN_STARTED: "running",
    events.RUN_ERROR: "failed",
}

_HANDLERS: Final[Mapping[str, Callable[[Fold, Event, Mapping[str, Any]], None]]] = {
    events.MESSAGE_USER: Fold._completed,
    events.MESSAGE_COMPLETED: Fold._completed,
    events.MESSAGE_SNAPSHOT: Fold._snapshot,
    "TEXT_MESSAGE_START": Fold._text_started,
    events.TEXT_CONTENT: Fold._text_delta,
    "TEXT_MESSAGE_END": Fold._touched,
    "REASONING_MESSAGE_START": Fold._reasoning_started,
    events.REASONING_CONTENT: Fold._reasoning_delta,
    "REASONING_MESSAGE_END": Fold._touched,
    "TOOL_CALL_START": Fold._tool_started,
    events.TOOL_ARGS: Fold._tool_delta,
    "TOOL_CALL_END": Fold._tool_ended,
    "TOOL_CALL_RESULT": Fold._tool_result,
    events.RUN_FINISHED: Fold._run,
    **dict.fromkeys(_RUN_STATES, Fold._run),
}
