"""A small TCP balancer: spreads connections over the gateways whose `/readyz` says so, and forwards bytes unread.

A process of its own (`python tests/support/balancer.py PORT-FILE TARGETS-FILE`), so that what it costs is not the
clients' to pay, and quickly there: it imports nothing of ours. It reads the gateways' ports, one a line, from a file
that may change.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path
from typing import Final, cast

import uvloop

_LOOK_S: Final = 0.1
_HIGH_WATER: Final = 256 * 1024


class _End(asyncio.Protocol):
    """One end of a connection; what it gets goes to the other one."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def joined(self, other: _End) -> None:
        """Send on what came before the other end was there."""
        self.other = other
        early, self._early = self._early, []
        if early and other.transport is not None:
            other.transport.write(b"".join(early))

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_End):
    """A connection that has come in."""

    def __init__(self, balancer: _Balancer) -> None:
        super().__init__()
        self._balancer = balancer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._balancer.forward(self))
        self._balancer.tasks.add(task)
        task.add_done_callback(self._balancer.tasks.discard)


class _Balancer:
    def __init__(self, targets: Path) -> None:
        self._targets = targets
        self._ready: list[int] = []
        self._turn = count()
        self.tasks: set[asyncio.Task[None]] = set()

    async def forward(self, client: _Client) -> None:
        """Join it with the next gateway that is ready; close it where there is none, as balancers do."""
        for _ in range(len(self._ready)):
            port = self._ready[next(self._turn) % len(self._ready)]
            try:
                _, gateway = await asyncio.get_running_loop().create_connection(_End, "127.0.0.1", port)
            except OSError:
                continue
            gateway.joined(client)
            client.joined(gateway)
            if client.transport is None or client.transport.is_closing():
                assert gateway.transport is not None
                gateway.transport.close()
            return
        if client.transport is not None:
            client.transport.abort()

    def _listed(self) -> list[int]:
        return [int(line) for line in self._targets.read_text().split()]

    async def look(self) -> None:
        """Ask the gateways again and again whether they are ready."""
        while True:
            ports = self._listed()
            said = await asyncio.gather(*(_ready(port) for port in ports))
            before = self._ready
            self._ready = [
                port
                for port, ready in zip(ports, said, strict=True)
                if ready or (ready is None and port in before)  # no answer in time is no answer
            ]
            await asyncio.sleep(_LOOK_S)


async def _ready(port: int) -> bool | None:
    """Say whether a gateway is ready; None when it does not say so in time."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return None
    except OSError:
        return False


def _say(port_file: Path, port: int) -> None:
    new = port_file.with_suffix(".new")
    new.write_text(str(port))
    new.rename(port_file)


async def _serve(port_file: Path, targets: Path) -> None:
    balancer = _Balancer(targets)
    server = await asyncio.get_running_loop().create_server(lambda: _Client(balancer), "127.0.0.1", 0, backlog=4096)
    looking = asyncio.create_task(balancer.look())
    _say(port_file, server.sockets[0].getsockname()[1])
    await looking


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
