"""A process of a trial, from within: on its host, with its journal, told what to do through a pipe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import orjson

from tests.fault.clock import step_by
from tests.fault.hosts import enter
from tests.fault.journal import Calls, Journal
from tests.support.servers import die_with_parent


@dataclass(frozen=True)
class Start:
    """What a process is started with. `who` is its host and how many there were before: `w1.2`."""

    who: str
    host: str
    namespace: str | None
    directory: Path
    broker: str
    sessions: tuple[str, ...]
    seed: int
    # Where gateways are, for those who come through them; arguments, for a gateway.
    port: int = 0
    secret: str = ""
    options: tuple[str, ...] = ()


@dataclass
class Part:
    """A process as its own code sees it. `told`: what it has been told last; `heard` is set by each."""

    start: Start
    journal: Journal
    calls: Calls
    pipe: Connection
    told: dict[str, Any] = field(default_factory=dict)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def who(self) -> str:
        return self.start.who

    @property
    def host(self) -> str:
        return self.start.host

    @property
    def broker(self) -> str:
        return self.start.broker

    @property
    def sessions(self) -> tuple[str, ...]:
        return self.start.sessions

    async def ready(self) -> None:
        """Say that it has begun, and listen to what it is told from now on."""
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), self._hear)
        self.say({"ready": True})

    def say(self, what: dict[str, Any]) -> None:
        self.pipe.send_bytes(orjson.dumps(what))

    def _hear(self) -> None:
        try:
            self.told.update(orjson.loads(self.pipe.recv_bytes()))
        except EOFError:  # whoever began us has ended
            os._exit(1)
        self.heard.set()

    async def until_told(self, what: str) -> Any:
        """Wait until it is told this; return what was said of it."""
        while what not in self.told:
            self.heard.clear()
            await self.heard.wait()
        return self.told[what]


def live(
    start: Start, offset_s: Synchronized[float], pipe: Connection, life: Callable[[Part], Awaitable[None]]
) -> None:
    """Be that process, to its end."""
    prepare(start, offset_s)
    journal = Journal(start.directory, start.who)
    asyncio.run(_lived(life, Part(start, journal, Calls(journal), pipe)))


async def _lived(life: Callable[[Part], Awaitable[None]], part: Part) -> None:
    await life(part)


def prepare(start: Start, offset_s: Synchronized[float]) -> None:
    """Go to the host, say everything in a file of one's own, have a clock that can be stepped."""
    die_with_parent()
    if start.namespace is not None:
        enter(start.namespace)
    log = os.open(start.directory / f"{start.who}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    step_by(offset_s)
