"""The processes of a trial, from without: started on their hosts, killed, frozen, clocks stepped, asked to end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import orjson

from tests.fault import browser, page, person, reader, worker
from tests.fault.hosts import Host
from tests.fault.journal import Journal
from tests.fault.process import Start, live, prepare
from tests.fault.schedule import PAGES
from tests.support.link import Link
from tests.support.rolling import CONTEXT, Forked
from tests.support.waiting import eventually

CONTEXT.set_forkserver_preload(["tests.fault.cast"])
SECRET: Final = "a secret of thirty-two bytes or more, for trials alone"
# Whatever starts looks for a broker, which may be away for an election or two.
_START_S: Final = 60.0
_LIVES: Final[dict[str, Any]] = {"w": worker.work, "p": person.be, "f": reader.read, "b": browser.browse}
_ROLES: Final = {"w": ("agent",), "p": ("user", "operator", "agent"), "b": ("user",)}


def _gateway(start: Start, offset_s: Any, pipe: Connection) -> None:
    from session_fabric_gateway.main import main

    prepare(start, offset_s)
    arguments = ["--nats", start.broker, "--dev-secret", start.secret, "--port", str(start.port), *start.options]
    os._exit(main([*arguments, "--ready-fd", str(os.dup(pipe.fileno()))]))


def _live(start: Start, offset_s: Any, pipe: Connection) -> None:
    live(start, offset_s, pipe, _LIVES[start.host[0]])


def _target(name: str) -> Callable[..., None]:
    if name.startswith("g"):
        return _gateway
    return page.open_page if name in PAGES else _live


class Ended(Exception):
    """A process has ended that was to go on."""


@dataclass
class Role:
    """One host and the process that is there now."""

    host: Host
    start: Start
    journal: Journal
    links: list[Link]
    offset_s: Any
    lives: int = 0
    process: Forked | None = None
    pipe: Connection | None = None
    said: dict[str, Any] = field(default_factory=dict)
    over: bool = False

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def who(self) -> str:
        return f"{self.name}.{self.lives}"

    @property
    def is_gateway(self) -> bool:
        return self.name.startswith("g")

    async def begin(self) -> None:
        """Start a process there, and wait until it says that it has begun. One that finds no broker ends; another one
        is started then, as whatever looks after processes does."""
        deadline = time.monotonic() + _START_S
        while True:
            await self._start()
            try:
                return await (self._gateway_ready() if self.is_gateway else self._ready())
            except Ended:
                if time.monotonic() > deadline:
                    raise
                self.journal.note("begun again", process=self.who)

    async def _ready(self) -> None:
        await self.until("ready")

    async def _start(self) -> None:
        self.lives += 1
        self.said = {}
        ours, theirs = CONTEXT.Pipe(duplex=not self.is_gateway)
        start = replace(self.start, who=self.who)
        target = _target(self.name)
        process = CONTEXT.Process(target=target, args=(start, self.offset_s, theirs), daemon=True)
        process.start()
        theirs.close()
        self.process, self.pipe = Forked(process), ours
        participants = [f"{role}:{self.name}" for role in _ROLES.get(self.name[0], ())]
        self.journal.note("began", process=self.who, participants=participants)

    async def _gateway_ready(self) -> None:
        assert self.pipe is not None
        pipe, said = self.pipe.fileno(), b""
        os.set_blocking(pipe, False)

        def line() -> bool:
            nonlocal said
            with suppress(BlockingIOError):
                more = os.read(pipe, 4096)
                if not more:
                    raise Ended(self.who)
                said += more
            return said.endswith(b"\n")

        await eventually(line, _START_S, every_s=0.02)
        port = int(orjson.loads(said)["url"].rpartition(":")[2])
        self.start = replace(self.start, port=port)  # the next one listens there too

    async def until(self, what: str, timeout_s: float = _START_S) -> Any:
        """Wait until the process says it; return what."""

        def heard() -> bool:
            while self.pipe is not None and self.pipe.poll():
                try:
                    self.said |= orjson.loads(self.pipe.recv_bytes())
                except EOFError:
                    self.pipe = None
            return what in self.said or self.ended

        await eventually(heard, timeout_s, every_s=0.02)
        if what not in self.said:
            raise Ended(f"{self.who}, before it said {what!r}")
        return self.said[what]

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.status is not None

    def step_clock(self, offset_s: float) -> None:
        """Have its wall clock be wrong by so much."""
        self.offset_s.value = offset_s
        self.tell(clock=offset_s)

    def tell(self, **what: Any) -> None:
        if self.pipe is not None and not self.is_gateway:
            with suppress(BrokenPipeError):
                self.pipe.send_bytes(orjson.dumps(what))

    async def kill(self) -> None:
        assert self.process is not None
        self.journal.note("killed", process=self.who)
        self.send(signal.SIGCONT)
        await self.process.kill()

    async def end(self) -> None:
        """End it, since the trial is over."""
        self.over = True
        if self.process is not None:
            await self.process.kill()

    async def stop(self) -> int:
        """Ask it to end; return its status."""
        assert self.process is not None
        self.journal.note("stopped", process=self.who)
        self.send(signal.SIGTERM)
        return await self.process.ended()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send(number)


def log_end(directory: Path, who: str, lines: int = 5) -> str:
    file = directory / f"{who}.log"
    return "\n".join(file.read_text("utf-8", "replace").splitlines()[-lines:]) if file.exists() else ""
