"""A network between a device and the gateway, or a process and its broker: cut, swallowing, slow, mended."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from typing import Literal

_CHUNK = 65536
_DIAL_S = 10.0

# From whoever dials to the target; back; both.
Way = Literal["up", "down", "both"]


class Link:
    """Forwards TCP from a port of its own. Cut, it refuses; swallowing, it keeps connections open and silent.

    With several targets each connection goes to the next. `within` is entered while a socket is made: a network
    namespace, for example. `delay_s` is the time that bytes are under way, half more or less.
    """

    def __init__(
        self,
        *targets: int | tuple[str, int],
        within: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._targets = itertools.cycle([("127.0.0.1", t) if isinstance(t, int) else t for t in targets])
        self._within = within
        self._listening: socket.socket | None = None
        self._ways: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = {"up": asyncio.Event(), "down": asyncio.Event()}
        for way in self._flowing.values():
            way.set()
        self.refusing = False
        self.connections = 0
        self.delay_s = 0.0

    @property
    def port(self) -> int:
        assert self._listening is not None
        return int(self._listening.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        with self._within():
            self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        # Not `asyncio.start_server`: closed in the turn in which a connection comes, it leaves that open (Python 3.11).
        asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def cut(self) -> None:
        """Break every connection, and each new one."""
        self.refusing = True
        self.reset()

    def reset(self) -> None:
        """Break every connection; new ones go through."""
        for writer in list(self._writers):
            writer.transport.abort()

    def swallow(self, way: Way = "both") -> None:
        """Let nothing through any more, and say nothing about it."""
        for name, flowing in self._flowing.items():
            if way in (name, "both"):
                flowing.clear()

    def mend(self) -> None:
        """Let new connections through again; what hung goes on where it was."""
        self.refusing = False
        self.delay_s = 0.0
        for flowing in self._flowing.values():
            flowing.set()

    async def stop(self) -> None:
        assert self._listening is not None
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self.cut()
        for flowing in self._flowing.values():
            flowing.set()  # who waits goes on, and finds its connection broken
        await asyncio.gather(*self._ways)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with self._within():
            sock = socket.socket()
        sock.setblocking(False)
        try:
            async with asyncio.timeout(_DIAL_S):
                await asyncio.get_running_loop().sock_connect(sock, next(self._targets))
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    def _accept(self, listening: socket.socket) -> None:
        try:
            near, _ = listening.accept()
        except OSError:
            return  # who dialled has gone again
        near.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._forward(near))
        self._ways.add(task)
        task.add_done_callback(self._ways.discard)

    async def _forward(self, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near)
        self._writers.add(writer)
        ends = [writer]
        try:
            for flowing in self._flowing.values():
                await flowing.wait()
            if self.refusing:
                return
            self.connections += 1
            far_reader, far_writer = await self._dial()
            self._writers.add(far_writer)
            ends.append(far_writer)
            ways = [
                asyncio.create_task(self._carry(reader, far_writer, self._flowing["up"])),
                asyncio.create_task(self._carry(far_reader, writer, self._flowing["down"])),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        except (OSError, TimeoutError):
            pass  # the other side is down: this one sees its connection end
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s * random.uniform(0.5, 1.5))
                await flowing.wait()
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def link_to(port: int) -> AsyncIterator[Link]:
    link = Link(port)
    await link.start()
    try:
        yield link
    finally:
        await link.stop()
