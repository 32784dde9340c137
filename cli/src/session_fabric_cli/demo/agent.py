"""The demo agent: answers what participants ask, each in a run of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from session_fabric import AgentRun, Fabric

from session_fabric_cli.demo import inputs
from session_fabric_cli.demo.writers import Answerer

PARTICIPANT: Final = "agent:docs"
# How many answers are written at once; further questions wait at the broker.
CONCURRENT: Final = 16
_HISTORY: Final = 50


class DemoAgent:
    """Answers every input of a tenant once, those of one session in their order, several sessions at a time."""

    def __init__(self, fabric: Fabric, answerer: Answerer) -> None:
        self._fabric = fabric
        self._answerer = answerer
        self._agent = fabric.agent(concurrency=CONCURRENT, retries=0)(self._answer)

    async def serve(self, ready: Callable[[], None]) -> None:
        """Work until `stop` or cancelled; `ready` is called when inputs are about to be waited for."""
        await self._fabric.watch_over()
        ready()
        await self._agent.serve()

    def stop(self) -> None:
        """Take no more questions; answers that are being written may end."""
        self._agent.stop()

    async def _answer(self, run: AgentRun) -> None:
        said = await run.session.messages(limit=_HISTORY, branch="visible")
        before = inputs.turns_before(said.messages, run.input.event)
        await self._answerer.answer(run, run.input.text, before)
