"""Agents in processes of their own, to be killed. Each is started as an agent is, and forked from none: what a process
has in memory for itself is what the kernel takes its time over when it ends one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Final, Self

from session_fabric import AgentRun, Fabric
from session_fabric.jetstream.credentials import VARIABLE

from tests.support.servers import die_with_parent

# Processes that load the SDK, as agents do, whoever's agents they are.
LOADED: Final = get_context("spawn")
_TOKEN: Final = "{:06d} "
_END: Final = "end"
_EVERY_S: Final = 0.05  # 20 tokens/s
_STARTS_S: Final = 30.0


def whole(text: str) -> bool:
    """Say whether an answer is all that its agent wrote: the tokens in their order, each once, and the end."""
    count = (len(text) - len(_END)) // len(_TOKEN.format(0))
    return count > 0 and text == "".join(map(_TOKEN.format, range(count))) + _END


class Agents:
    """`with Agents() as agents:` kills in the end those that are left."""

    def __init__(self) -> None:
        self._processes: dict[str, BaseProcess] = {}

    def __len__(self) -> int:
        return len(self._processes)

    async def start(self, url: str, *, pool: str = "default", concurrency: int = 1) -> str:
        """Start a worker and return, when it serves, its process's name in the fabric."""
        return await asyncio.to_thread(self._start, url, pool, concurrency)

    def _start(self, url: str, pool: str, concurrency: int) -> str:
        ours, theirs = LOADED.Pipe()
        process = LOADED.Process(
            target=_run, args=(url, os.environ.get(VARIABLE), pool, concurrency, theirs), daemon=True
        )
        process.start()
        theirs.close()
        try:
            if not ours.poll(_STARTS_S):
                raise RuntimeError(f"an agent did not start within {_STARTS_S:g} s")
            holder = str(ours.recv())
        except BaseException:
            process.kill()
            raise
        self._processes[holder] = process
        return holder

    def kill(self, holder: str) -> None:
        """End one as a crash does."""
        process = self._processes.pop(holder)
        process.kill()

    def finish(self) -> None:
        """Tell all to bring what they write to its end, now and from now on."""
        for process in self._processes.values():
            if process.pid is None or not process.is_alive():
                raise RuntimeError(f"an agent has ended with status {process.exitcode}")
            os.kill(process.pid, signal.SIGUSR1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()


def _run(url: str, credentials: str | None, pool: str, concurrency: int, started: Connection) -> None:
    die_with_parent()
    asyncio.run(_serve(url, credentials, pool, concurrency, started))


async def _serve(url: str, credentials: str | None, pool: str, concurrency: int, started: Connection) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    async with Fabric.connect(url, participant="agent:worker", credentials=credentials) as fabric:

        @fabric.agent(pool=pool, concurrency=concurrency)
        async def counts(run: AgentRun) -> None:
            """Write until told to end, and nothing where another one has begun: that shows as a text in part."""
            number = 0
            while not (told.is_set() or run.resumed):
                await run.text(_TOKEN.format(number))
                number += 1
                await asyncio.sleep(_EVERY_S)
            await run.text(_END)

        await fabric.watch_over()
        started.send(fabric.broker.holder)
        await fabric.serve()
