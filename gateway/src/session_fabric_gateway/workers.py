"""Several gateway processes on one port, and the parent that keeps them there."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client.multiprocess import mark_process_dead
from session_fabric.jetstream.owned import OwnedProcess
from session_fabric.words.errors import LocalTrouble

from session_fabric_gateway.app import bind, url_of
from session_fabric_gateway.settings import Settings
from session_fabric_gateway.stopping import Stopping

log = structlog.get_logger()

# Set in a worker's environment: its number.
WORKER: Final = "SESSION_FABRIC_WORKER"
# With a broker that is ready.
_READY_WITHIN_S: Final = 30.0
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 5.0
# A worker that ran for this long was healthy: its next death is a new story.
_STEADY_S: Final = 10.0


class WorkerFailed(LocalTrouble):
    code = "worker_failed"


async def supervise(settings: Settings, arguments: Sequence[str], announce: Callable[[dict[str, Any]], None]) -> None:
    """Run the workers until SIGTERM, SIGINT or SIGHUP, then let them drain; one that dies is started again.

    The parent takes the port without listening, so that it stays ours; the kernel spreads connections over the
    workers (SO_REUSEPORT).
    """
    stopping = Stopping()
    with ExitStack() as ports, stopping.before_ready(), tempfile.TemporaryDirectory() as metrics:
        sock = ports.enter_context(bind(settings.host, settings.port, shared=True))
        given = [*arguments, "--port", str(sock.getsockname()[1])]
        admin = None
        if settings.admin_port is not None:
            host = settings.admin_host or settings.host
            admin = ports.enter_context(bind(host, settings.admin_port, shared=True, flag="--admin-port"))
            given += ["--admin-port", str(admin.getsockname()[1])]
        workers = [_Worker(number, settings, given, Path(metrics)) for number in range(settings.workers)]
        try:
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(worker.start())
            stopping.ready()
            announce(
                {
                    "url": url_of(sock, tls=settings.tls_cert is not None),
                    "pid": os.getpid(),
                    "workers": [worker.pid for worker in workers],
                    **({} if admin is None else {"admin": url_of(admin)}),
                }
            )
            async with asyncio.TaskGroup() as group:
                keeping = [group.create_task(worker.keep()) for worker in workers]
                await stopping.told.wait()
                for task in keeping:
                    task.cancel()
        except* WorkerFailed as failed:
            raise failed.exceptions[0] from None
        finally:
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(worker.stop())


class _Worker:
    def __init__(self, number: int, settings: Settings, arguments: Sequence[str], metrics: Path) -> None:
        self._number = number
        self._settings = settings
        self._arguments = arguments
        self._metrics = metrics
        self._process: OwnedProcess | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it and wait until it listens. Raises `WorkerFailed`."""
        ready, write = os.pipe()
        command = [sys.executable, "-m", "session_fabric_gateway", *self._arguments]
        command += ["--ready-fd", str(write)]
        environment = {**os.environ, WORKER: str(self._number), "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
        try:
            self._process = OwnedProcess.start(
                command, stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno(), env=environment, pass_fds=(write,)
            )
        finally:
            os.close(write)
        with os.fdopen(ready, "rb") as pipe:
            try:
                async with asyncio.timeout(self._settings.broker_wait_s + _READY_WITHIN_S):
                    said = await _line(pipe.fileno())
            except TimeoutError:
                said = b""
        if not said:
            status = self._process.status
            await self.stop()
            raise WorkerFailed(f"Worker {self._number} did not start (status {status}).", hint="Its log says why.")

    async def keep(self) -> None:
        """Start it again whenever it dies, until cancelled."""
        delay_s = _FIRST_DELAY_S
        while True:
            assert self._process is not None
            begun = time.monotonic()
            status = await self._process.wait()
            self._process.kill()  # what watches over it has nothing to watch any more
            mark_process_dead(self._process.pid, str(self._metrics))  # type: ignore[no-untyped-call]
            delay_s = _FIRST_DELAY_S if time.monotonic() - begun >= _STEADY_S else min(delay_s * 2, _LONGEST_DELAY_S)
            log.warning("worker_died", worker=self._number, status=status, again_in_s=delay_s)
            await self._restart(delay_s)

    async def _restart(self, delay_s: float) -> None:
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self.start()
            except WorkerFailed as error:
                log.warning("worker_failed", worker=self._number, detail=error.message)
                delay_s = min(delay_s * 2, _LONGEST_DELAY_S)
            else:
                return

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(self._settings.stop_s + 3.0)


async def _line(descriptor: int) -> bytes:
    """Read what a pipe brings until it is closed."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(descriptor, arrived.set)
    try:
        await arrived.wait()
        return os.read(descriptor, 4096)
    finally:
        loop.remove_reader(descriptor)
