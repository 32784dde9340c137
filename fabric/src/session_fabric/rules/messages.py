"""Messages and runs: what a session's events fold into, and the forms in which they grow."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from session_fabric.rules.texts import Text
from session_fabric.words.errors import InvalidOffset
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset

RunState = Literal["claimed", "running", "completed", "cancelled", "failed", "orphaned"]
Status = Literal["open", "completed", "interrupted", "failed"]

STATUS: Final[Mapping[RunState, Status]] = {
    "claimed": "open",
    "running": "open",
    "completed": "completed",
    "cancelled": "interrupted",
    "orphaned": "interrupted",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of a message; `args` is JSON text; `result` is None while there is none."""

    id: str
    name: str
    args: str
    result: Any


@dataclass(frozen=True, slots=True)
class Message:
    """A message as far as it is known. `content` is text, or AG-UI's list of parts.

    `first` and `last` are the first and the newest event that name it.
    """

    id: str
    role: str
    actor: str
    run: str | None
    content: Any
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    status: Status
    first: Offset
    last: Offset

    def plain(self) -> dict[str, Any]:
        """Return the form that every client's folding must give (tests/golden)."""
        calls = [{"id": c.id, "name": c.name, "args": c.args, "result": c.result} for c in self.tool_calls]
        return {
            "id": self.id,
            "role": self.role,
            "content": self.content,
            "status": self.status,
            "reasoning": self.reasoning,
            "tool_calls": calls,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """A run and its newest state; `agent` is who claimed it last, `since` the event that says so."""

    id: str
    state: RunState
    agent: str
    since: Offset


class GrowingCall:
    """A tool call in the making: its events need not come after the one that names its message."""

    __slots__ = ("args", "id", "name", "result", "result_at")

    def __init__(self, id: str) -> None:
        self.id = id
        self.name = ""
        self.args = Text()
        self.result: Any = None
        self.result_at: Offset | None = None


class GrowingMessage:
    """A message in the making."""

    __slots__ = (
        "actor",
        "attached",
        "done",
        "first",
        "id",
        "last",
        "listed",
        "parts",
        "reasoning",
        "role",
        "run",
        "said",
        "text",
        "thinks",
    )

    def __init__(self, id: str, event: Event, said: bool) -> None:
        self.id = id
        self.said = said  # by message.user: not the run's to change
        self.first = self.last = event.offset
        self.actor = event.actor
        self.run = event.run
        self.role = ""
        self.text = Text()
        self.parts: Any = None
        self.reasoning = Text()
        self.thinks = False  # reasoning events name it
        self.done: Offset | None = None
        self.listed: list[str] | None = None  # tool calls as the completion lists them
        self.attached: dict[str, Offset] = {}  # tool calls by their own start

    def touch(self, event: Event) -> None:
        if event.offset < self.first:
            self.first, self.actor, self.run = event.offset, event.actor, event.run
        elif event.offset > self.last:
            self.last = event.offset

    def begin(self, began: object) -> None:
        """Take the offset of the first event that named it, which may be gone with its deltas."""
        if isinstance(began, str):
            with suppress(InvalidOffset):
                self.first = min(self.first, Offset.parse(began))

    def call_ids(self) -> list[str]:
        done, listed = self.done, self.listed
        attached = sorted(self.attached, key=self.attached.__getitem__)
        if listed is None or done is None:
            return attached
        return listed + [c for c in attached if self.attached[c] > done and c not in listed]
