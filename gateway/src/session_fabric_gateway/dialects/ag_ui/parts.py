"""What a reader of AG-UI's events was told to be open, and what opens, grows and closes: texts, thoughts, calls, steps.

Its clients are strict: what begins must end before the run does, and nothing is said of what has not begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson

from session_fabric_gateway.dialects.ag_ui.saying import Said, thoughts_of
from session_fabric_gateway.dialects.telling import Happened, Part, units_of

_CONTENTS: Final[Mapping[Part, bytes]] = {
    "text": b'{"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":%b}',
    "reasoning": b'{"type":"REASONING_MESSAGE_CONTENT","messageId":%b,"delta":%b}',
    "args": b'{"type":"TOOL_CALL_ARGS","toolCallId":%b,"delta":%b}',
}

_OF_MESSAGES: Final[tuple[Part, ...]] = ("reasoning", "text")


class _Stand(NamedTuple):
    """How much was told of each text that is not whole, and what of it is open."""

    units: dict[tuple[str, Part], int]
    open: frozenset[tuple[str, Part]]


class Parts:
    """The half of a `Speaker` that messages, calls and steps are told by. What goes out gathers in `out`, each event
    with how much of each text that is not whole was told with it."""

    def __init__(self, *, eager: bool, hidden: frozenset[str], given: frozenset[str]) -> None:
        self.out: list[tuple[bytes, _Stand | None]] = []
        self._eager = eager
        self._hidden = hidden
        self._given = given
        self._roles: dict[str, str] = {}
        self._calls: dict[str, Said] = {}
        self._began: set[str] = set()
        self._open: dict[tuple[str, Part], None] = {}
        self._units: dict[tuple[str, Part], int] = {}
        self._steps: dict[str, None] = {}

    def _put(self, event: bytes | Said, *, half: bool = False) -> None:
        """Have an event go out. `half`: the next one belongs to it, and nobody comes back to a place between them."""
        data = event if isinstance(event, bytes) else orjson.dumps(event)
        self.out.append((data, None if half else _Stand(dict(self._units), frozenset(self._open))))

    def _opened(self, message: str, role: str) -> None:
        self._roles[message] = role
        if self._eager and role != "reasoning" and message not in self._hidden:
            self._begin(message, "text")

    def _closed(self, message: str) -> None:
        """End a message. What was told of it is forgotten with the last event that says so, and not before: a reader
        who comes back to one in between must not be told it again."""
        says_text = (message, "text") in self._open
        if says_text:
            self._end(message, "reasoning")
        for part in _OF_MESSAGES:
            self._units.pop((message, part), None)
        self._end(message, "text" if says_text else "reasoning")

    def _piece(self, of: str, part: Part, text: bytes) -> None:
        if of in self._hidden or (part == "args" and of not in self._calls):
            return
        if part == "text":
            self._end(of, "reasoning")
        self._begin(of, part)
        self._units[of, part] = self._units.get((of, part), 0) + units_of(text)
        self._put(_CONTENTS[part] % (orjson.dumps(self._name(of, part)), text))

    def _begin(self, of: str, part: Part) -> None:
        if (of, part) in self._open:
            return
        if part == "reasoning" and self._eager and self._roles.get(of) != "reasoning":
            self._begin(of, "text")
        self._open[of, part] = None
        self._units.setdefault((of, part), 0)
        name = self._name(of, part)
        if part == "text":
            again = of in self._began
            self._began.add(of)
            if not (again and self._eager):
                role = self._roles.get(of, "assistant")
                self._put({"type": "TEXT_MESSAGE_START", "messageId": name, "role": role})
        elif part == "reasoning":
            self._put({"type": "REASONING_START", "messageId": name}, half=True)
            self._put({"type": "REASONING_MESSAGE_START", "messageId": name, "role": "reasoning"})
        else:
            self._put({"type": "TOOL_CALL_START", "toolCallId": name, **self._calls.get(of, {})})

    def _end(self, of: str, part: Part) -> None:
        if (of, part) not in self._open:
            return
        del self._open[of, part]
        name = self._name(of, part)
        if part == "text":
            self._put({"type": "TEXT_MESSAGE_END", "messageId": name})
        elif part == "reasoning":
            self._put({"type": "REASONING_MESSAGE_END", "messageId": name}, half=True)
            self._put({"type": "REASONING_END", "messageId": name})
        else:
            self._put({"type": "TOOL_CALL_END", "toolCallId": name})

    def _name(self, of: str, part: Part) -> str:
        """Return the id by which AG-UI's clients know it: what is thought beside a text is a message of its own."""
        return thoughts_of(of) if part == "reasoning" and self._roles.get(of) != "reasoning" else of

    def _close_all(self) -> None:
        for of, part in list(self._open):
            self._end(of, part)
        for step in list(self._steps):
            self._step_ended(step)

    # --- tools and steps --------------------------------------------------------------------------------

    def _call_started(self, told: Happened) -> None:
        id, parent = told.body.get("toolCallId"), told.body.get("parentMessageId")
        if not isinstance(id, str) or parent in self._hidden:
            return
        if isinstance(parent, str) and self._eager:
            self._begin(parent, "text")
        kept = ("toolCallName", "parentMessageId")
        self._calls[id] = {name: told.body[name] for name in kept if isinstance(told.body.get(name), str)}
        self._began.add(id)
        self._begin(id, "args")

    def _call_ended(self, told: Happened) -> None:
        id = told.body.get("toolCallId")
        if isinstance(id, str):
            self._end(id, "args")
            self._units.pop((id, "args"), None)

    def _call_result(self, told: Happened) -> None:
        id = told.body.get("toolCallId")
        if not isinstance(id, str) or id not in self._calls or id in self._given:
            return
        self._call_ended(told)
        named = {"messageId": told.body.get("messageId") or f"{id}-result", "toolCallId": id}
        content = told.body.get("content")
        text = content if isinstance(content, str) else orjson.dumps(content).decode()
        self._put({"type": "TOOL_CALL_RESULT", **named, "role": "tool", "content": text})

    def _step_started(self, told: Happened) -> None:
        step = told.body.get("stepName")
        if isinstance(step, str):
            self._step_ended(step)
            self._steps[step] = None
            self._put({"type": "STEP_STARTED", "stepName": step})

    def _step_finished(self, told: Happened) -> None:
        self._step_ended(told.body.get("stepName"))

    def _step_ended(self, step: object) -> None:
        if isinstance(step, str) and step in self._steps:
            del self._steps[step]
            self._put({"type": "STEP_FINISHED", "stepName": step})
