"""Messages and runs: what a session's events fold into, and the forms in which they grow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Final, Literal

from session_fabric.rules.texts import Text
from session_fabric.words.errors import InvalidOffset
from session_fabric.words.events import Event
from session_fabric.words.positions import Offset

RunState = Literal["claimed", "running", "suspended", "completed", "cancelled", "failed", "orphaned"]
Status = Literal["open", "completed", "interrupted", "failed"]
Delivery = Literal["steered", "rejected", "expired"]

STATUS: Final[Mapping[RunState, Status]] = {
    "claimed": "open",
    "running": "open",
    "suspended": "open",
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

    `first` and `last` are the first and the newest event that name it. `parent` is the message that it follows, None
    at the beginning. `delivery` says what became of a user's message that got no run of its own. `redacted`: what it
    said was removed.
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
    parent: str | None = None
    delivery: Delivery | None = None
    redacted: bool = False

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
            "parent": self.parent,
            "delivery": self.delivery,
            **({"redacted": True} if self.redacted else {}),
        }


@dataclass(frozen=True, slots=True)
class Run:
    """A run and its newest state; `agent` is who claimed it last, `since` its newest event.

    `input` is the event that asked for it, `message` the user's message that it answers, `request` what it waits for
    while it is suspended; of a failed run `error` is what was said about it, `code` of which kind it is.
    """

    id: str
    state: RunState
    agent: str
    since: Offset
    generation: int = 1
    pool: str | None = None
    input: Offset | None = None
    message: str | None = None
    request: str | None = None
    error: str | None = None
    code: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return the form that every client's folding must give (tests/golden)."""
        fields: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["since"]
        return fields | {"input": None if self.input is None else str(self.input)}


def named(parent: object) -> str | EllipsisType | None:
    """Return the parent that an author has named; `...` for what is none."""
    return parent if parent is None or isinstance(parent, str) else ...


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
        "named",
        "parts",
        "reasoning",
        "redacted",
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
        self.named: str | EllipsisType | None = ...  # its parent, where its author named one
        self.reasoning = Text()
        self.thinks = False  # reasoning events name it
        self.done: Offset | None = None
        self.listed: list[str] | None = None  # tool calls as the completion lists them
        self.attached: dict[str, Offset] = {}  # tool calls by their own start
        self.redacted = False

    def is_of(self, event: Event, said: bool) -> bool:
        """Say whether an event may write into it: of its run; without one, of the participant who said it."""
        return self.said == said and (self.run or self.actor) == (event.run or event.actor)

    def touch(self, event: Event) -> None:
        if event.offset < self.first:
            self.first, self.actor, self.run = event.offset, event.actor, event.run
        elif event.offset > self.last:
            self.last = event.offset

    def begin(self, began: object) -> bool:
        """Take the offset of the first event that named it, which may be gone with its deltas; say if that is news."""
        if isinstance(began, str):
            with suppress(InvalidOffset):
                offset = Offset.parse(began)
                if offset < self.first:
                    self.first = offset
                    return True
        return False

    def call_ids(self) -> list[str]:
        done, listed = self.done, self.listed
        attached = sorted(self.attached, key=self.attached.__getitem__)
        if listed is None or done is None:
            return attached
        return listed + [c for c in attached if self.attached[c] > done and c not in listed]
