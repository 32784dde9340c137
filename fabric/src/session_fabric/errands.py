"""What a process still has to say in sessions when those whose task it was have gone; it ends with the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from session_fabric.words.closing import Closed
from session_fabric.words.logs import log


class Errands:
    """Owns them. There is one for each run at most that was let go of without its end, and none in quiet times."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, errand: Coroutine[Any, Any, None], name: str) -> None:
        """Have it done from now on, in nobody's trace."""
        task = asyncio.get_running_loop().create_task(errand, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, Closed):  # then it is left to the others, too
            log.error("errand_failed", task=task.get_name(), error=type(error).__name__, exc_info=error)

    async def close(self) -> None:
        """Leave what is not done to those who look after this process when it has gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
