"""An agent that says a word when the test lets it, and asks the page that it is talked to from."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from session_fabric import AgentRun, Fabric


class Wordy:
    """Takes messages of the default pool: `say …`, `where` (a tool of the page), `delete` (an approval)."""

    def __init__(self) -> None:
        self._let: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))

    def go_on(self, session: str, words: int = 1) -> None:
        """Let it say so many words more in a session."""
        for _ in range(words):
            self._let[session].release()

    async def answer(self, run: AgentRun) -> None:
        word, *rest = run.input.text.split()
        if word == "where":
            await run.text("Let me see. ")
            page = await run.client_tool("read_page", {})
            await run.text(f"It is {page['title']}.")
        elif word == "delete":
            await run.text("I found 3. ")
            approval = await run.approve("Delete 3 files?", text="a, b and c")
            await run.text("Deleted." if approval.approved else "Kept.")
        else:
            for each in rest:
                await self._let[run.session.name].acquire()
                await run.text(f"{each} ")


@asynccontextmanager
async def serving(fabric: Fabric) -> AsyncIterator[Wordy]:
    """Have it answer for as long as the block lasts."""
    wordy = Wordy()
    agent = fabric.agent(concurrency=32)(wordy.answer)
    task = asyncio.create_task(agent.serve())
    try:
        yield wordy
    finally:
        agent.stop()
        await task
