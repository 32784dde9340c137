"""A session as a chat that grows: what each event adds to what is on the terminal. Pure.

Nothing that was printed is changed: a message is headed when it begins, or goes on after another has spoken, and its
text is added as it comes. What comes twice, or in another order, is added once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from session_fabric.words import events
from session_fabric.words.events import Event, utf16_length

from session_fabric_cli.printing import moment, one_line

_TEXTS: Final = frozenset({events.MESSAGE_USER, events.MESSAGE_COMPLETED, events.MESSAGE_SNAPSHOT})


def printable(text: str) -> str:
    """Return text of others with its lines, and without what steers a terminal."""
    lines = text.replace("\r\n", "\n").replace("\t", "    ").split("\n")
    return "\n".join("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines)


class Chat:
    """Turns events into what to print; each call returns text to be written as it is, line ends included."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._done: set[str] = set()
        self._speaking: str | None = None
        self._open_line = False

    def add(self, event: Event) -> str:
        """Return what an event adds; nothing for what a chat does not show."""
        body = event.body
        if event.type in _TEXTS:
            return self._text(event, body)
        if event.type == events.TEXT_CONTENT:
            return self._delta(event, body)
        note = _NOTES.get(event.type)
        return "" if note is None else self._note(event, note(event, body))

    def end(self) -> str:
        """Return what closes the last line."""
        return self._break()

    def _text(self, event: Event, body: Mapping[str, Any]) -> str:
        message = body.get("message")
        if not isinstance(message, dict) or message.get("role") == "reasoning":
            return ""
        id, whole = str(message.get("id")), _content(message.get("content"))
        if id in self._done:
            return ""
        shown = self._shown.get(id, "")
        done = event.type != events.MESSAGE_SNAPSHOT
        if not done and not whole.startswith(shown):
            return ""  # an older look at it
        if not whole.startswith(shown):
            # It was rewritten: what is on the terminal stays there.
            added = self._head(event, id, " (instead)") + printable(whole)
        else:
            more = whole[len(shown) :]
            added = self._head(event, id) + printable(more) if more or id not in self._shown else ""
        self._shown[id] = whole
        self._open_line = self._open_line or bool(added)
        if done:
            self._done.add(id)
            if self._speaking == id:
                added += self._break()
        return added

    def _delta(self, event: Event, body: Mapping[str, Any]) -> str:
        id, piece, at = str(body.get("messageId")), body.get("delta"), event.at
        if id in self._done or not isinstance(piece, str) or at is None:
            return ""
        shown = self._shown.get(id, "")
        length = utf16_length(shown)
        if at > length or at + utf16_length(piece) <= length:
            return ""  # what is missing comes with the whole; what was shown is shown
        more = piece.encode("utf-16-le", "surrogatepass")[2 * (length - at) :].decode("utf-16-le", "replace")
        head = self._head(event, id)
        self._shown[id] = shown + more
        self._open_line = True
        return head + printable(more)

    def _note(self, event: Event, said: str) -> str:
        broken = self._break()
        return f"{broken}{moment(event.ts)[11:]}  · {one_line(said, 200)}\n"

    def _head(self, event: Event, id: str, more: str = "") -> str:
        if self._speaking == id and not more:
            return ""
        again = " (goes on)" if id in self._shown and not more else more
        head = f"{self._break()}{moment(event.ts)[11:]}  {one_line(event.actor)}{again}\n"
        self._speaking = id
        return head

    def _break(self) -> str:
        ended, self._open_line, self._speaking = self._open_line, False, None
        return "\n" if ended else ""


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]"
        for part in parts
        if isinstance(part, dict)
    )
    return " ".join(texts)


def _ended(event: Event, body: Mapping[str, Any]) -> str:
    outcome = body.get("outcome")
    kind = outcome.get("type") if isinstance(outcome, dict) else None
    return f"run {event.run} {'ended' if kind in (None, 'success') else kind}"


_NOTES: Final[Mapping[str, Callable[[Event, Mapping[str, Any]], str]]] = {
    events.RUN_STARTED: lambda e, b: f"{e.actor} began run {e.run}",
    events.RUN_FINISHED: _ended,
    events.RUN_ERROR: lambda e, b: f"run {e.run} failed: {b.get('message') or b.get('code')}",
    events.RUN_SUSPENDED: lambda e, b: f"run {e.run} waits",
    events.RUN_RESUMED: lambda e, b: f"run {e.run} goes on",
    events.RUN_ORPHANED: lambda e, b: f"run {e.run} lost its process",
    events.RUN_TAKEN_OVER: lambda e, b: f"{e.actor} took run {e.run} over",
    "TOOL_CALL_START": lambda e, b: f"{e.actor} calls {b.get('toolCallName')}",
    events.TOOL_REQUESTED: lambda e, b: f"{e.actor} asks for the tool {b.get('tool')}",
    events.TOOL_ANSWERED: lambda e, b: f"{e.actor} answered the tool",
    events.TOOL_EXPIRED: lambda e, b: "nobody answered the tool",
    events.INPUT_REQUESTED: lambda e, b: f"{e.actor} asks: {b.get('title')}",
    events.INPUT_ANSWERED: lambda e, b: f"{b.get('by') or e.actor} answered",
    events.INPUT_EXPIRED: lambda e, b: "nobody answered",
    events.CONTROL_REQUESTED: lambda e, b: f"{e.actor} asks run {b.get('run')} to {b.get('action')}",
    events.CONTROL_REJECTED: lambda e, b: f"that was rejected: {b.get('reason')}",
    events.CONTROL_EXPIRED: lambda e, b: "nobody heard it",
    events.HANDOFF_OFFERED: lambda e, b: f"{e.actor} offers the floor to {b.get('to')}",
    events.HANDOFF_ACCEPTED: lambda e, b: f"{e.actor} took the offer",
    events.HANDOFF_TAKEN: lambda e, b: f"{e.actor} took the floor",
    events.HANDOFF_RETURNED: lambda e, b: f"{e.actor} gave the floor back",
    events.PRESENCE_JOINED: lambda e, b: f"{b.get('participant')} is there",
    events.PRESENCE_LEFT: lambda e, b: f"{b.get('participant')} left",
    events.SESSION_CLOSED: lambda e, b: f"{e.actor} closed the session",
    events.MESSAGE_EXPIRED: lambda e, b: "nobody answered the message in time",
    events.MESSAGE_REJECTED: lambda e, b: f"the message was rejected: {b.get('reason')}",
    events.MESSAGE_STEERED: lambda e, b: "the message was taken into account",
    events.MESSAGE_REDACTED: lambda e, b: f"{e.actor} removed what message {b.get('message')} said: {b.get('reason')}",
    events.EVENT_REDACTED: lambda e, b: f"{e.actor} removed event {b.get('at')}: {b.get('reason')}",
    events.WHISPER: lambda e, b: f"{e.actor} whispers: {b.get('text')}",
}
