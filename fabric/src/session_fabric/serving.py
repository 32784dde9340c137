"""What `@fabric.agent(…)` makes: a handler with its worker, served until it is told to stop."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from session_fabric.agents import AgentRun, Handler, Options
from session_fabric.told import ending_signals, leave_terminal
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.logs import log
from session_fabric.worker import Worker

# What a shell says of a process that Ctrl-C has ended.
_INTERRUPTED: Final = 128 + signal.SIGINT


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
    """Serve agents until the process is told to end (SIGTERM, SIGINT, SIGHUP), or all have been stopped.

    A second SIGINT ends it before it has drained: runs are left to others, and `SystemExit` is raised with 130.
    """
    if not agents:
        raise InvalidRequest("There is no agent to serve.", hint="Decorate a handler with @fabric.agent(pool=…).")
    told = _Told(agents)
    with told.listening():
        async with asyncio.TaskGroup() as group:
            told.serving = [group.create_task(one.serve(), name=f"agent {one.options.pool}") for one in agents]
    if told.impatient:
        raise SystemExit(_INTERRUPTED)


class _Told:
    """What the process is told by signals while it serves agents."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self._agents = agents
        self.serving: Sequence[asyncio.Task[None]] = ()
        self._interrupts = 0

    @property
    def impatient(self) -> bool:
        return self._interrupts > 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        before = {}
        for number in ending_signals():
            # Not in the main thread, or no signals here: then whoever embeds us stops us.
            with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):
                handler = signal.getsignal(number)
                loop.add_signal_handler(number, self._tell, number)
                before[number] = handler
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                if handler is not None:  # asyncio's own, which ends what comes after us in order
                    signal.signal(number, handler)

    def _tell(self, number: signal.Signals) -> None:
        leave_terminal()
        busy = sum(agent.busy for agent in self._agents)
        self._interrupts += number == signal.SIGINT
        if self.impatient:
            if self._interrupts == 2:
                log.warning("ended_undrained", runs=busy)
                for task in self.serving:
                    task.cancel()
            return
        log.info("serving_ends", signal=number.name, runs=busy)
        for agent in self._agents:
            agent.stop()
        # Once all is done, a second one that comes while the interpreter takes itself apart would look as if it were
        # not: a tenth of a second and more, in which signals are not Python's any longer.
        atexit.unregister(_stay)
        atexit.register(_stay)


def _stay() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
