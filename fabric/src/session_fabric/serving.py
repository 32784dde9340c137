"""What `@fabric.agent(…)` makes: a handler with its worker, served until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from session_fabric.agents import AgentRun, Handler, Options
from session_fabric.words.errors import InvalidRequest
from session_fabric.worker import Worker


class Agent:
    """An agent of a pool. Called, it is its handler; served, it answers what the pool is asked."""

    def __init__(self, handler: Handler, options: Options, worker_of: Callable[[Agent], Awaitable[Worker]]) -> None:
        self.handler = handler
        self.options = options
        self._worker_of = worker_of
        self._worker: Worker | None = None
        self._stopped = False

    async def __call__(self, run: AgentRun) -> None:
        await self.handler(run)

    @property
    def busy(self) -> int:
        """How many runs are under way."""
        return 0 if self._worker is None else self._worker.busy

    async def serve(self) -> None:
        """Answer until `stop`. Cancelled: runs are left to other workers of the pool, floors are given back.

        Survives a lost broker. Raises `BrokerUnavailable` when it is not there at the beginning.
        """
        if self._worker is not None:
            raise InvalidRequest(f"This agent of pool {self.options.pool!r} is being served.")
        self._worker = await self._worker_of(self)
        if self._stopped:
            self._worker.stop()
        try:
            await self._worker.run()
        finally:
            self._worker, self._stopped = None, False

    def stop(self) -> None:
        """Take nothing more. `serve` returns when what is under way has ended, after `stop_s` at the latest."""
        self._stopped = True
        if self._worker is not None:
            self._worker.stop()


async def serve(agents: Sequence[Agent]) -> None:
    """Serve agents until the process is told to end (SIGTERM, SIGINT), or all have been stopped."""
    if not agents:
        raise InvalidRequest("There is no agent to serve.", hint="Decorate a handler with @fabric.agent(pool=…).")
    async with _told_to_end(agents), asyncio.TaskGroup() as group:
        for agent in agents:
            group.create_task(agent.serve(), name=f"agent {agent.options.pool}")


@asynccontextmanager
async def _told_to_end(agents: Sequence[Agent]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    def end() -> None:
        for agent in agents:
            agent.stop()

    handled = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not in the main thread, or no signals here: then whoever embeds us stops us.
        with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):
            loop.add_signal_handler(number, end)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
