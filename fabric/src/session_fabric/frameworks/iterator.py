"""Any async iterator as an agent: what it yields is what the run says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from session_fabric import AgentRun
from session_fabric.frameworks.running import working_on
from session_fabric.frameworks.writing import Piece, Writing


def streaming(answer: Callable[[AgentRun], AsyncIterator[Piece]]) -> Callable[[AgentRun], Awaitable[None]]:
    """Make a handler of what answers a run by an async iterator: `fabric.agent()(streaming(answer))`.

    It yields text, and AG-UI's events (models of `ag_ui.core`, or their JSON): reasoning, tool calls with their
    results, steps, state, `CUSTOM`. `RUN_FINISHED` may name a `result` and `usage`; `RUN_ERROR` fails the run with its
    sentence and code. What the iterator raises ends the attempt as it does for any handler. A cancelled run cancels
    the iterator at its next await, and closes it; what it has yielded is kept. Raises `InvalidEvent` for what is
    neither text nor an event.
    """

    async def handler(run: AgentRun) -> None:
        with working_on(run):
            await Writing(run).all(answer(run))

    return handler
