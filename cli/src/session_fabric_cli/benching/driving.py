"""One measurement: a load goes one way through a deployment, and comes back to who listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from session_fabric.words.errors import FabricError
from session_fabric.words.names import new_id

from session_fabric_cli.benching.figures import Measured
from session_fabric_cli.benching.load import Load

Heard = Callable[[str], None]


class Way(Protocol):
    """A way to sessions that exist. Whoever listens gets every event once at least, in no promised order."""

    through: str

    async def append(self, session: str, id: str, body: Mapping[str, Any]) -> None:
        """Return when the event is stored. Raises `FabricError`."""

    async def listen(self, session: str, heard: Heard) -> None:
        """Call `heard` with the id of each event of the session, from its first one, until it is cancelled."""

    async def read(self, session: str) -> int:
        """Read the session again from the beginning; return how many events there are."""


async def drive(
    way: Way, load: Load, sessions: Sequence[str], patience_s: float, wrote: Callable[[], None]
) -> Measured:
    """Measure. `wrote` is called for each event; what has not come `patience_s` after the last is missing.

    Raises the first `FabricError` of the way. Cancelled, it leaves the sessions as they are.
    """
    try:
        async with asyncio.TaskGroup() as group:
            return await _Drive(way, load, sessions, patience_s, wrote).run(group)
    except* FabricError as failed:
        raise _first(failed) from None


def _first(group: BaseExceptionGroup[FabricError]) -> FabricError:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    assert isinstance(one, FabricError)
    return one


class _Drive:
    def __init__(
        self, way: Way, load: Load, sessions: Sequence[str], patience_s: float, wrote: Callable[[], None]
    ) -> None:
        self._way, self._load, self._sessions, self._patience_s, self._wrote = way, load, sessions, patience_s, wrote
        self._measured = Measured(way.through, load.events * len(sessions))
        self._sent: dict[str, float] = {}
        self._heard = asyncio.Event()

    async def run(self, group: asyncio.TaskGroup) -> Measured:
        listeners = [group.create_task(self._way.listen(name, self._hear)) for name in self._sessions]
        await self._warm()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as writers:
            for number, name in enumerate(self._sessions):
                writers.create_task(self._write(number, name, begun))
        self._measured.seconds = time.perf_counter() - begun
        await self._until_all_came()
        for listener in listeners:
            listener.cancel()
        read_from = time.perf_counter()
        for name in self._sessions:
            self._measured.read += await self._way.read(name)
        self._measured.read_s = time.perf_counter() - read_from
        return self._measured

    async def _warm(self) -> None:
        """Write one event to each session and wait for it: then each is open both ways, and its listener live."""
        for name in self._sessions:
            id = new_id()
            self._sent[id] = time.perf_counter()
            await self._way.append(name, id, {"type": "CUSTOM", "name": "fabricctl.bench"})
        await self._until_all_came()
        self._sent.clear()
        self._measured.delivery_s.clear()

    async def _write(self, number: int, name: str, begun: float) -> None:
        body = self._load.body()
        for due_s in self._load.due_s(number):
            await asyncio.sleep(max(0.0, begun + due_s - time.perf_counter()))
            now = time.perf_counter()
            if now > begun + self._load.seconds:
                return  # behind: what was not written in time is not written
            self._measured.late_s.append(now - begun - due_s)
            id = new_id()
            self._sent[id] = now
            await self._way.append(name, id, body)
            self._measured.append_s.append(time.perf_counter() - now)
            self._wrote()

    def _hear(self, id: str) -> None:
        sent = self._sent.pop(id, None)
        if sent is not None:
            self._measured.delivery_s.append(time.perf_counter() - sent)
            if not self._sent:
                self._heard.set()

    async def _until_all_came(self) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                while self._sent:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return
