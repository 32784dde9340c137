"""Being told to stop: SIGTERM, SIGINT and SIGHUP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from session_fabric.told import ending_signals, leave_terminal


class Stopping:
    """Hears the signals from now on, in the task that makes it: until `ready` they end that, then they set `told`."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            loop.add_signal_handler(number, self._tell)

    def ready(self) -> None:
        self._starting = None

    @contextmanager
    def before_ready(self) -> Iterator[None]:
        """Leave the block in order when we are told while it waits for something at its start."""
        try:
            yield
        except asyncio.CancelledError:
            if not self.told.is_set():
                raise

    def _tell(self) -> None:
        leave_terminal()
        starting, self._starting = self._starting, None
        self.told.set()
        if starting is not None:
            starting.cancel()
