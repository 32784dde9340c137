"""Messages in the making: what the events of texts and tool calls add to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from session_fabric.rules.messages import GrowingCall, GrowingMessage, named
from session_fabric.rules.redacted import redacted_message
from session_fabric.rules.texts import Text
from session_fabric.words import events
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset


class Drafts:
    """The half of a `Fold` that the text of messages grows in."""

    def __init__(self) -> None:
        self._drafts: dict[str, GrowingMessage] = {}
        self._calls: dict[str, GrowingCall] = {}
        self._redactions: dict[str, Offset] = {}  # by message: where that was said
        self._redacted_calls: set[str] = set()

    def _moved(self) -> None:
        """Take note that messages may have other places among each other now."""
        raise NotImplementedError

    def _was_superseded(self, run: str | None, id: str) -> bool:
        """Say whether a step of the run has ever named the message as one of a failed attempt."""
        raise NotImplementedError

    def _draft(self, event: Event, id: object, *, said: bool = False) -> GrowingMessage | None:
        """Return the message that an event writes into, or None where it may not, or names none."""
        if not isinstance(id, str) or id in self._redactions:
            return None
        draft = self._drafts.get(id)
        mine = draft is not None and draft.is_of(event, said)
        if draft is None or event.offset < draft.first or self._was_superseded(event.run, id):
            self._moved()
        if draft is None or (not mine and event.offset < draft.first):
            draft = self._drafts[id] = GrowingMessage(id, event, said)
        elif not mine:
            return None
        draft.touch(event)
        return draft

    def _call(self, id: str) -> GrowingCall:
        call = self._calls.get(id)
        if id in self._redacted_calls:
            return GrowingCall(id)  # nobody shows it
        if call is None:
            call = self._calls[id] = GrowingCall(id)
        return call

    def _text_started(self, event: Event, body: Mapping[str, Any]) -> None:
        draft = self._draft(event, body.get("messageId"))
        if draft is not None and draft.done is None:
            draft.role = text_in(body.get("role")) or "assistant"

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
        if draft.begin(body.get("began")):
            self._moved()
        content, reasoning = _split(message)
        draft.role = text_in(message.get("role")) or draft.role or "assistant"
        draft.text.cover(text_in(content))
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
        if said:
            self._name_parent(draft, body)
        elif draft.begin(body.get("began")):
            self._moved()
        draft.role = "user" if said else text_in(message.get("role")) or draft.role or "assistant"
        draft.text.finish(text_in(content))
        draft.parts = content if isinstance(content, list) and content else None
        draft.reasoning.finish(reasoning)
        calls = self._tool_calls(message)
        draft.listed = None if calls is None else [call.id for call, _, _ in calls]
        for call, name, args in calls or ():
            call.name = name or call.name
            call.args.finish(args)

    def _redacted(self, event: Event, body: Mapping[str, Any]) -> None:
        """Put what its event says of a message in the place of what the message said; the first such event counts."""
        id = body.get("message")
        if not isinstance(id, str) or self._redactions.get(id, event.offset) < event.offset:
            return
        self._redactions[id] = event.offset
        self._drafts.pop(id, None)
        calls = body.get("calls")
        for call in calls if isinstance(calls, list) else ():
            self._redacted_calls.add(str(call))
            self._calls.pop(str(call), None)
        draft = redacted_message(id, event, body.get("left"))
        if draft is not None:
            self._drafts[id] = draft
        self._moved()

    def _name_parent(self, draft: GrowingMessage, body: Mapping[str, Any]) -> None:
        parent = body.get("parent", ...)
        draft.named = named(parent)
        self._moved()

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
                calls.append((call, text_in(function.get("name")), text_in(function.get("arguments"))))
        return calls

    def _tool_started(self, event: Event, body: Mapping[str, Any]) -> None:
        id = body.get("toolCallId")
        if not isinstance(id, str):
            return
        # AG-UI: a call without a parent makes a message of its own.
        draft = self._draft(event, body.get("parentMessageId") or id)
        if draft is not None:
            call = self._call(id)
            call.name = call.name or text_in(body.get("toolCallName"))
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


def _put(text: Text, event: Event, body: Mapping[str, Any]) -> None:
    piece = text_in(body.get("delta"))
    if event.at is None:
        text.put_loose(event.offset, piece)
    else:
        text.put(event.at, piece)


def _split(message: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a message's content and reasoning; of AG-UI's reasoning messages the content is that."""
    if message.get("role") == "reasoning":
        return "", text_in(message.get("content"))
    return message.get("content"), text_in(message.get("reasoning"))


def text_in(value: object) -> str:
    """Return a value that is text; what is none, or is missing, is empty."""
    return value if isinstance(value, str) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


TEXT_HANDLERS: Final[Mapping[str, Callable[[Drafts, Event, Mapping[str, Any]], None]]] = {
    events.MESSAGE_USER: Drafts._completed,
    events.MESSAGE_COMPLETED: Drafts._completed,
    events.MESSAGE_SNAPSHOT: Drafts._snapshot,
    events.MESSAGE_REDACTED: Drafts._redacted,
    "TEXT_MESSAGE_START": Drafts._text_started,
    events.TEXT_CONTENT: Drafts._text_delta,
    "TEXT_MESSAGE_END": Drafts._touched,
    "REASONING_MESSAGE_START": Drafts._reasoning_started,
    events.REASONING_CONTENT: Drafts._reasoning_delta,
    "REASONING_MESSAGE_END": Drafts._touched,
    "TOOL_CALL_START": Drafts._tool_started,
    events.TOOL_ARGS: Drafts._tool_delta,
    "TOOL_CALL_END": Drafts._tool_ended,
    "TOOL_CALL_RESULT": Drafts._tool_result,
}
