"""When the followers of one process check, and when they tell what has come."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from typing import Final, Protocol

from session_fabric.words.errors import BrokerRefused
from session_fabric.words.logs import log

# All followers of a process together ask the broker for at most this many checks a second.
CHECKS_PER_S = 100
# How soon what was refused is asked for again, and how seldom at last.
_REFUSED_S: Final = 0.2
_MOST_REFUSED_S: Final = 5.0
# Of more sessions than this it pays to gather more: a gateway that is saturated with 200 sessions spends 9 us on each
# event, and would spend 13 if it wrote after each piece of the stream.
MOST_AT_ONCE = 16


class Due(Protocol):
    """A follower to which something has come."""

    def flush(self) -> None:
        """Tell what has come."""


class Pace:
    """Spreads the checks of many followers of one process, and has all of them tell together what came together."""

    def __init__(self) -> None:
        self.followers = 0
        self._due: deque[Due] = deque()
        # Asked for once: which loop runs is a call of the kernel (Python 3.11).
        self._loop: asyncio.AbstractEventLoop | None = None

    def due(self, follower: Due) -> None:
        """Have a follower tell at the end of this tick what has come to it, or when `heard` is called before that."""
        if not self._due:
            loop = self._loop = self._loop or asyncio.get_running_loop()
            loop.call_soon(self.tell)
        self._due.append(follower)

    def heard(self) -> None:
        """What came together has all come: where it is of few, they need not wait for the end of the tick."""
        if len(self._due) <= MOST_AT_ONCE:
            self.tell()

    def tell(self) -> None:
        """Have those tell, now, that are due."""
        try:
            while self._due:
                self._due.popleft().flush()
        finally:
            if self._due:  # one has failed; the others wait for no other event
                asyncio.get_running_loop().call_soon(self.tell)

    def due_s(self, wanted_s: float) -> float:
        """Return when to check next: at random about then, so that those who began together do not check together."""
        return max(wanted_s, self.followers / CHECKS_PER_S) * random.uniform(0.7, 1.3)


class Refusals:
    """What the broker has refused one follower of late: said once, and asked for ever more seldom."""

    def __init__(self) -> None:
        self.over()

    def over(self) -> None:
        """It has done what it was asked."""
        self._said, self._pause_s = "", _REFUSED_S

    async def wait(self, error: BrokerRefused, wake: asyncio.Event) -> None:
        """Wait before it is asked again, or until `wake`; say why, where that was not said yet."""
        if error.message != self._said:
            self._said = error.message
            log.warning("follower_refused", code=error.code, detail=error.message)
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, _MOST_REFUSED_S)
        wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await wake.wait()
