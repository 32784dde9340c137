"""The development server: a broker, a gateway and a demo agent, kept alive until told to stop."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from session_fabric import Fabric
from session_fabric.jetstream.credentials import VARIABLE
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.logs import VARIABLE as FORM_VARIABLE
from session_fabric.logs import Form
from session_fabric.words.errors import DataDirectoryInUse, FabricError, PortBusy

from session_fabric_cli.dev import places
from session_fabric_cli.dev.child import Child, ChildFailed
from session_fabric_cli.dev.restarts import Restarts
from session_fabric_cli.dev.tokens import mint

DEFAULT_PORT: Final = 8080
PARTICIPANT: Final = "user:you"
OPERATOR: Final = "operator:eve"


@dataclass(frozen=True)
class Options:
    """What the command line said; `port` and `data` None: not said."""

    port: int | None = None
    host: str = "127.0.0.1"
    data: Path | None = None
    insecure: bool = False
    agent: bool = True
    agent_options: Sequence[str] = ()
    tenant: str = "default"
    workers: int = 1
    log_format: Form | None = None
    allow_origin: Sequence[str] = ()


class DevServer:
    """Everything that `fabricctl dev` runs. `start` it, `keep` it, `stop` it."""

    def __init__(self, options: Options, notice: Callable[[str], None]) -> None:
        self._options = options
        self._notice = notice
        self._stack = AsyncExitStack()
        self._port = 0
        self._token = self._operator_token = ""
        self.data = Path()

    async def start(self) -> places.Running:
        """Start broker, gateway and agent; what was started is stopped again if one of them cannot be."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> places.Running:
        options = self._options
        if importlib.util.find_spec("session_fabric_gateway") is None:
            raise ChildFailed("The gateway is not installed.", hint="pip install 'session-fabric-cli[demo]'")
        self._port = choose_port(options.host, options.port, self._notice)
        self.data, self._broker = await start_broker(options.data, self._notice)
        self._stack.push_async_callback(self._stop_broker)
        # One stream is enough on one machine; whoever connects after this finds it made.
        await (await Fabric.connect(self._broker.url, credentials=self._broker.credentials, streams=1)).close()
        environment = {**os.environ, VARIABLE: str(self._broker.keys.nkey)}
        if options.log_format is not None:
            environment[FORM_VARIABLE] = options.log_format
        secret = places.secret_file(self.data)
        self._token = mint(secret, participant=PARTICIPANT, tenant=options.tenant)
        self._operator_token = mint(secret, participant=OPERATOR, tenant=options.tenant, everything=True)
        self._gateway = Child("gateway", lambda: self._gateway_command(secret), self.data / "gateway.log", environment)
        self._stack.push_async_callback(self._gateway.stop)
        self._agent = Child("demo agent", self._agent_command, self.data / "agent.log", environment)
        self._stack.push_async_callback(self._agent.stop)
        try:
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._gateway.start())
                if options.agent:
                    starting.create_task(self._agent.start())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        # A gateway that is started again must be where the pages look for it.
        self._port = urlsplit(str(self._gateway.said["url"])).port or self._port
        self._stack.callback(places.withdraw, self.data)
        return self._announce()

    async def keep(self) -> None:
        """Start again whatever dies, for ever; cancel it to go on to `stop`."""
        async with asyncio.TaskGroup() as keeping:
            keeping.create_task(self._keep_broker())
            keeping.create_task(self._gateway.keep(self._notice, self._announce))
            if self._options.agent:
                keeping.create_task(self._agent.keep(self._notice, self._announce))

    async def stop(self) -> None:
        """Stop agent, gateway and broker, in this order."""
        await self._stack.aclose()

    def _announce(self) -> places.Running:
        url = str(self._gateway.said["url"]).rstrip("/")
        running = places.Running(
            url=url,
            ws=f"ws{url.removeprefix('http')}/v1/ws",
            nats=self._broker.url,
            nats_credentials=str(self._broker.keys.nkey),
            token=self._token,
            operator_token=self._operator_token,
            data=str(self.data),
            pid=os.getpid(),
            broker_pid=self._broker.pid,
            gateway_pid=self._gateway.pid,
            agent_pid=self._agent.pid if self._options.agent else None,
        )
        places.announce(self.data, running)
        return running

    async def _keep_broker(self) -> None:
        restarts = Restarts()
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            status = await self._broker.wait()
            delay_s = restarts.died(loop.time() - begun)
            self._notice(f"The broker ended with status {status}; starting it again in {delay_s:g} s.")
            self._broker.kill()
            port = urlsplit(self._broker.url).port or 0
            while True:
                await asyncio.sleep(delay_s)
                try:
                    self._broker = await EmbeddedBroker.start(self.data, port=port)
                    break
                except FabricError as error:
                    delay_s = restarts.died(0.0)
                    self._notice(f"{error} Trying again in {delay_s:g} s.")
            self._notice(f"The broker is back (process {self._broker.pid}).")
            self._announce()

    async def _stop_broker(self) -> None:
        await self._broker.stop()

    def _gateway_command(self, secret: Path) -> list[str]:
        options = self._options
        command = [sys.executable, "-m", "session_fabric_gateway", "--json", "--nats", self._broker.url]
        command += ["--host", options.host, "--port", str(self._port), "--dev-secret-file", str(secret)]
        command += ["--native-agents", str(self._broker.keys.seeds)]
        command += ["--workers", str(options.workers)]
        command += [f"--allow-origin={origin}" for origin in options.allow_origin]
        return [*command, "--insecure"] if options.insecure else command

    def _agent_command(self) -> list[str]:
        command = [sys.executable, "-m", "session_fabric_cli.demo", "--nats", self._broker.url]
        return [*command, "--tenant", self._options.tenant, *self._options.agent_options]


async def start_broker(data: Path | None, notice: Callable[[str], None]) -> tuple[Path, EmbeddedBroker]:
    """Start the broker on the directory that was named, or on the first default one that nobody uses."""
    if data is not None:
        try:
            return data, await EmbeddedBroker.start(data)
        except DataDirectoryInUse as error:
            error.hint = "Stop that process, or give this one another directory with --data."
            raise
    *others, last = places.default_directories()
    for directory in others:
        try:
            broker = await EmbeddedBroker.start(directory)
        except DataDirectoryInUse as error:
            notice(f"{error.message} Trying the next one.")
            continue
        return directory, broker
    return last, await EmbeddedBroker.start(last)


def choose_port(host: str, port: int | None, notice: Callable[[str], None]) -> int:
    """Return the port for the gateway: the one that was named, or 8080, or a free one (0) if that is taken."""
    if port == 0:
        return 0
    wanted = DEFAULT_PORT if port is None else port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            if port is None and error.errno == errno.EADDRINUSE:
                notice(f"Port {wanted} is in use; taking a free one.")
                return 0
            raise PortBusy(
                f"Port {wanted} of {host} cannot be opened: {error.strerror or error}.",
                hint="Choose another one with --port (0 is a free one), or another address with --host.",
            ) from error
    return wanted
