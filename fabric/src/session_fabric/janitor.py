"""Removes the deltas of ended runs, a grace after what completes them is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context

from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.ports import Log, Stretch, Wanted
from session_fabric.records import SessionRecord
from session_fabric.words.errors import FabricError
from session_fabric.words.logs import log
from session_fabric.words.measures import PURGED

# Long enough that a reader in the middle of an answer finds its deltas; whoever comes later reads the completion.
GRACE_S = 10.0
# At the end of a process the rest is purged at once, for this long; what is left goes by its TTL.
CLOSING_S = 2.0
MOST_WAITING = 10_000


class Janitor:
    """One task a connection, begun with its first run."""

    def __init__(self, log_: Log, metrics: Metrics = NOT_COUNTED, grace_s: float = GRACE_S) -> None:
        self._log = log_
        self._metrics = metrics
        self._grace_s = grace_s
        self._waiting: deque[tuple[float, Stretch, str, int]] = deque(maxlen=MOST_WAITING)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def run_ended(self, record: SessionRecord, run: str, end: int) -> None:
        """Have the deltas of a run that ended at a sequence removed after the grace.

        Beyond 10,000 waiting, the oldest are left to their TTL.
        """
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + self._grace_s, record.stretch, run, end))
        if self._task is None:
            self._task = loop.create_task(self._work(), name="janitor", context=Context())
        self._wake.set()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._waiting:
                due = self._waiting[0][0]
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await self._purge(*self._waiting.popleft()[1:])
            self._wake.clear()
            await self._wake.wait()

    async def _purge(self, to: Stretch, run: str, end: int) -> None:
        try:
            # Up to its end only: the session may have been deleted since, and a run of that name begun anew.
            gone = await self._log.purge(to, wanted=Wanted("tok", run), upto=end)
            self._metrics.count(PURGED, "completed", gone)
        except FabricError as error:
            log.info("deltas_left_to_their_ttl", run=run, code=error.code)

    async def close(self) -> None:
        """Remove what waits, as far as two seconds go."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSING_S):
                while self._waiting:
                    await self._purge(*self._waiting.popleft()[1:])
        except TimeoutError:
            pass
