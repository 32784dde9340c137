"""Gateways behind a balancer that are restarted one after the other, under live runs and clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import psutil
from session_fabric import Fabric
from session_fabric.jetstream.credentials import VARIABLE
from session_fabric_gateway.main import main as gateway_main

from tests.support.servers import die_with_parent
from tests.support.waiting import eventually
from tests.system.speakers import session, speak

CONTEXT: Final = get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])
# Everything that is started has to be imported first, which a busy machine takes its time for.
_START_S = 90.0
_ENDS_S = 60.0


class Balancer:
    """The balancer's process, as whoever started it sees it."""

    def __init__(self, directory: Path) -> None:
        self._targets = directory / "gateways"
        self._port_file = directory / "balancer.port"
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def over(self, *ports: int) -> None:
        """Say which gateways there are."""
        new = self._targets.with_suffix(".new")
        new.write_text("\n".join(map(str, ports)))
        new.rename(self._targets)

    @contextmanager
    def running(self) -> Iterator[Balancer]:
        self.over()
        command = [
            sys.executable,
            str(Path(__file__).with_name("balancer.py")),
            str(self._port_file),
            str(self._targets),
        ]
        process = subprocess.Popen(command, preexec_fn=die_with_parent)
        try:
            deadline = time.monotonic() + _START_S
            while not (self._port_file.exists() and self._port_file.read_text()):
                assert process.poll() is None, "the balancer ended"
                assert time.monotonic() < deadline, "the balancer did not start"
                time.sleep(0.01)
            self.port = int(self._port_file.read_text())
            yield self
        finally:
            process.kill()
            process.wait()


@dataclass
class Gateways:
    """Gateway processes at one broker, and the balancer before them."""

    broker: str
    directory: Path
    options: Sequence[str]
    balancer: Balancer
    processes: list[Forked] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    # With which status those that were replaced have ended.
    ended: list[int] = field(default_factory=list)
    draining_s: list[float] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.directory / "gateways.log"

    async def start(self, count: int) -> None:
        for process, port in await asyncio.gather(*(self._start() for _ in range(count))):
            self.processes.append(process)
            self.ports.append(port)
        self.balancer.over(*self.ports)

    async def replace(self, number: int) -> None:
        """End one in order, and start another in its place when it has gone."""
        process = self.processes[number]
        begun = time.monotonic()
        process.send(signal.SIGTERM)
        self.ended.append(await process.ended())
        self.draining_s.append(time.monotonic() - begun)
        self.processes[number], self.ports[number] = await self._start()
        self.balancer.over(*self.ports)

    async def stop(self) -> None:
        for process in self.processes:
            await process.kill()

    async def _start(self) -> tuple[Forked, int]:
        """Start one; it is a fork of a process that has everything imported, and there within a tenth of a second."""
        ours, theirs = CONTEXT.Pipe(duplex=False)
        arguments = ["--nats", self.broker, "--insecure", "--port", "0", *self.options]
        process = CONTEXT.Process(
            target=_gateway, args=(arguments, self.log, theirs, os.environ.get(VARIABLE)), daemon=True
        )
        process.start()
        theirs.close()
        async with asyncio.timeout(_START_S):
            line = await asyncio.to_thread(_line, ours.fileno())
        ours.close()
        assert line, f"a gateway did not start: {self.log.read_text()[-1000:]}"
        return Forked(process), int(json.loads(line)["url"].rpartition(":")[2])


def _gateway(arguments: list[str], log: Path, ready: Connection, credentials: str | None) -> None:
    die_with_parent()
    _introduce(credentials)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.exit(gateway_main([*arguments, "--ready-fd", str(os.dup(ready.fileno()))]))


def _introduce(credentials: str | None) -> None:
    """Be let in as whoever forks us now, not as whoever began to."""
    os.environ.pop(VARIABLE, None)
    if credentials is not None:
        os.environ[VARIABLE] = credentials


def _speak(credentials: str | None, broker: str, sessions: int, a_second: float, pipe: Connection) -> None:
    _introduce(credentials)
    speak(broker, sessions, a_second, pipe)


def _line(number: int) -> bytes:
    said = b""
    while not said.endswith(b"\n") and (more := os.read(number, 4096)):
        said += more
    return said


class Forked:
    """A process of ours, awaited without a thread of its own."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    @property
    def status(self) -> int | None:
        """With which status it has ended; None: it lives."""
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    async def ended(self) -> int:
        await eventually(lambda: self._process.exitcode is not None, _ENDS_S)
        status = self._process.exitcode
        assert status is not None
        return status

    async def kill(self) -> None:
        if self._process.exitcode is None:
            self._process.kill()
        await self.ended()

    def psutil(self) -> psutil.Process:
        return psutil.Process(self._process.pid)


@asynccontextmanager
async def gateways(broker: str, directory: Path, *options: str, count: int = 2) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        balancer = stack.enter_context(Balancer(directory).running())
        some = Gateways(broker, directory, options, balancer)
        stack.push_async_callback(some.stop)
        await some.start(count)
        yield some


class Speakers:
    """A process with a run under way in each of many sessions."""

    def __init__(self, process: Forked, pipe: Connection) -> None:
        self.process = process
        self._pipe = pipe

    async def quiet(self) -> list[int]:
        """Have them say nothing more, their runs open; return how many words each has said."""
        self._pipe.send("quiet")
        said: list[int] = await self.told()
        return said

    async def end(self) -> None:
        self._pipe.send("end")
        await self.process.ended()

    async def told(self) -> Any:
        await eventually(self._pipe.poll, _START_S)
        return self._pipe.recv()


@asynccontextmanager
async def speakers(broker: str, sessions: int, a_second: float) -> AsyncIterator[Speakers]:
    """Begin a run in each session, of the tenant `default`; words of each, so many a second."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(
        target=_speak, args=(os.environ.get(VARIABLE), broker, sessions, a_second, theirs), daemon=True
    )
    process.start()
    theirs.close()
    some = Speakers(Forked(process), ours)
    try:
        assert await some.told() == "speaking"
        yield some
    finally:
        await some.process.kill()


async def logs(broker: str, sessions: int) -> dict[str, list[str]]:
    """Return the offsets of all that is stored of each session, in order."""
    stored = {}
    async with Fabric.connect(broker, tenant="default", participant="service:checker", timeout_s=30.0) as fabric:
        for number in range(sessions):
            name = session(number)
            async with aclosing(fabric.session(name).read("start", deltas="all")) as batches:
                stored[name] = [str(record.offset) async for records in batches for record in records]
    return stored
