"""A nats-server of one's own: from the wheel, on a data directory, for as long as this process lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.datadir import DirectoryLock, unusable
from session_fabric.jetstream.embedded_config import (
    INSTALL,
    LOG_NAME,
    OTHER_PORT,
    check_port,
    find_server,
    keep_former_data,
    reachable,
    server_config,
)
from session_fabric.jetstream.own_keys import OwnKeys
from session_fabric.jetstream.owned import STOP_WITHIN_S, OwnedProcess
from session_fabric.words.errors import BrokerMissing, BrokerUnavailable, PortBusy

_CONFIG_NAME: Final = "nats-server.conf"
_LOG_LINES_SHOWN: Final = 8
_POLL_S: Final = 0.01


class EmbeddedBroker:
    """A running nats-server with JetStream; `await EmbeddedBroker.start(dir)`, then `stop()` or `async with`.

    It ends with this process, whatever ends that. Data stay in the directory; so do the server's log and its keys,
    without which nobody is let in.
    POSIX only.
    """

    def __init__(
        self,
        data_dir: Path,
        process: OwnedProcess,
        lock: DirectoryLock,
        keys: OwnKeys,
    ) -> None:
        self.data_dir = data_dir
        self.keys = keys
        self.url = ""
        self.websocket_url: str | None = None
        self._process = process
        self._lock = lock

    @classmethod
    async def start(
        cls,
        data_dir: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        websocket_port: int | None = None,
        timeout_s: float = 30.0,
    ) -> EmbeddedBroker:
        """Start the server and return when it answers.

        Port 0 is a free one; `websocket_port` None is no listener.

        Raises `BrokerMissing`, `DataDirectoryInUse`, `DataDirectoryUnusable`, `PortBusy`, and
        `BrokerUnavailable` with the server's last log lines when it ends or is not ready after `timeout_s`
        (a large store takes seconds to open after a crash). Whatever is raised, nothing is left running.
        """
        binary = find_server()
        directory = data_dir.expanduser().absolute()  # noqa: ASYNC240 - asks no disk
        for wanted in (port, websocket_port):
            check_port(host, wanted)
        lock = await DirectoryLock.take(directory)
        try:
            keys = OwnKeys.of(directory)
            config = server_config(directory, host, port, websocket_port, keys.door)
            broker = cls._spawn(binary, directory, lock, config, keys)
        except BaseException:
            lock.release()
            raise
        try:
            await broker._ready(host, time.monotonic() + timeout_s)
        except BaseException:
            broker.kill()
            raise
        return broker

    @classmethod
    def _spawn(cls, binary: Path, directory: Path, lock: DirectoryLock, config: str, keys: OwnKeys) -> EmbeddedBroker:
        path = directory / _CONFIG_NAME
        try:
            for stale in directory.glob("*.ports"):
                stale.unlink()
            keep_former_data(directory)
            path.write_text(config, encoding="utf-8")
            log = open(directory / LOG_NAME, "ab")  # noqa: SIM115
        except OSError as error:
            raise unusable(directory, error) from error
        with log:
            try:
                # The server inherits the lock: the directory is in use for as long as the server lives.
                process = OwnedProcess.start([binary, "-c", path], stdout=log, stderr=log, pass_fds=[lock.fileno()])
            except OSError as error:
                raise BrokerMissing(f"{str(binary)!r} does not start: {error.strerror}.", hint=INSTALL) from error
        return cls(directory, process, lock, keys)

    async def _ready(self, host: str, deadline: float) -> None:
        ports_file = self.data_dir / f"nats-server_{self.pid}.ports"
        while True:
            if not self.alive:
                raise self._failed(f"The broker ended at its start with status {self._process.status}.")
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                ports = json.loads(ports_file.read_bytes())
                break
            if time.monotonic() > deadline:
                raise self._failed("The broker did not become ready in time.")
            await asyncio.sleep(_POLL_S)
        self.url = reachable(ports["nats"][0], host)
        if ports.get("websocket"):
            self.websocket_url = reachable(ports["websocket"][0], host)
        address, _, number = self.url.removeprefix("nats://").rpartition(":")
        try:
            async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
                reader, writer = await asyncio.open_connection(address.strip("[]"), int(number))
                try:
                    greeting = await reader.readline()
                finally:
                    writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            raise self._failed(f"The broker does not answer at {self.url}.") from error
        if not greeting.startswith(b"INFO ") or not json.loads(greeting[5:]).get("jetstream"):
            raise self._failed("The broker came up without JetStream.")

    @property
    def credentials(self) -> Credentials:
        """What lets processes of ours in, with all rights; nobody else is let in but by a gateway's word."""
        return self.keys.credentials

    def _failed(self, what: str) -> BrokerUnavailable | PortBusy:
        log = self.data_dir / LOG_NAME
        lines = log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES_SHOWN:] if log.exists() else []
        if any("address already in use" in line for line in lines[-3:]):
            return PortBusy(lines[-1], hint=OTHER_PORT)
        shown = "\n".join(lines)
        return BrokerUnavailable(f"{what} The end of {log}:\n{shown}", log=str(log))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.status is None

    async def wait(self) -> int:
        """Return the server's exit status when it has ended."""
        return await self._process.wait()

    async def stop(self, timeout_s: float = STOP_WITHIN_S) -> None:
        """Stop in good order; kill after `timeout_s`. Harmless when repeated; cancelled: killed at once."""
        try:
            await self._process.stop(timeout_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the server at once, as a crash would; what was acknowledged stays on the disk."""
        self._process.kill()
        self._lock.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
