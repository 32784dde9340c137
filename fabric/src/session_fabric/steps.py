"""Steps of a run: what a failed attempt of one has said is hidden when it is made again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from session_fabric.words.arguments import check_text
from session_fabric.words.errors import InvalidRequest, RunClosed
from session_fabric.words.events import STEP_FINISHED, STEP_STARTED

MOST_LETTERS: Final = 200
M = TypeVar("M")


class Writes(Protocol):
    """What steps need of a run's way to the log; what is written is kept in order."""

    on_begin: Callable[[str], None] | None

    async def event(self, body: Mapping[str, Any]) -> None: ...
    async def complete(self, id: str) -> None: ...
    async def abandon(self, messages: Collection[str]) -> None: ...
    def is_open(self, message: str) -> bool: ...


class Steps(Generic[M]):
    """The steps of one run. `turn_to` says which message `run.text` writes into, and returns the one before."""

    def __init__(self, writes: Writes, turn_to: Callable[[M | None], M | None], id_of: Callable[[M], str]) -> None:
        self.writes = writes
        self.turn_to = turn_to
        self.id_of = id_of
        self.failed: dict[str, int] = {}  # attempts by name
        self.gone: dict[str, list[str]] = {}  # messages of those, by name, that are not hidden yet
        # Those that a task is in, the innermost last: steps may go on side by side.
        self.inside: ContextVar[tuple[Step[M], ...]] = ContextVar("steps", default=())
        writes.on_begin = self._begun

    def step(self, name: str) -> Step[M]:
        if not 1 <= len(check_text(name, "The step's name")) <= MOST_LETTERS:
            raise InvalidRequest(f"The step's name is {name!r:.60}.", hint=f"Use 1 to {MOST_LETTERS} characters.")
        return Step(self, name)

    def _begun(self, message: str) -> None:
        for step in self.inside.get():
            step.messages.append(message)


class Step(Generic[M]):
    """One attempt of a step, while its block lasts; `attempt` counts from 1."""

    def __init__(self, steps: Steps[M], name: str) -> None:
        self.name = name
        self.attempt = 1
        self.messages: list[str] = []  # begun in it
        self._steps = steps
        self._outside: tuple[Step[M], ...] = ()
        self._before: M | None = None

    async def __aenter__(self) -> Self:
        steps = self._steps
        self.attempt = steps.failed.get(self.name, 0) + 1
        body: dict[str, Any] = {"type": STEP_STARTED, "stepName": self.name, "attempt": self.attempt}
        if gone := list(steps.gone.get(self.name, ())):
            body["supersedes"] = gone
        await steps.writes.event(body)
        if gone:
            del steps.gone[self.name][: len(gone)]
        self._outside = steps.inside.get()
        steps.inside.set((*self._outside, self))
        self._before = steps.turn_to(None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        steps = self._steps
        steps.inside.set(self._outside)
        own = steps.turn_to(None)
        if self._before is not None and steps.writes.is_open(steps.id_of(self._before)):
            steps.turn_to(self._before)
        if error is None:
            if own is not None and steps.id_of(own) in self.messages:
                await steps.writes.complete(steps.id_of(own))
            steps.failed.pop(self.name, None)
            await self._finish("success")
        else:
            steps.failed[self.name] = self.attempt
            steps.gone.setdefault(self.name, []).extend(self.messages)
            with contextlib.suppress(RunClosed):  # the author's own error is the one to tell
                await steps.writes.abandon(self.messages)
                if isinstance(error, Exception):  # else he is cancelled: by the run's end, or a time that has passed
                    await self._finish("failed")

    async def _finish(self, outcome: str) -> None:
        body = {"type": STEP_FINISHED, "stepName": self.name, "attempt": self.attempt, "outcome": outcome}
        await self._steps.writes.event(body)
