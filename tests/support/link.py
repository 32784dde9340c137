"""A network between a device and the gateway, or a process and its broker: cut, swallowing everything, mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_CHUNK = 65536


class Link:
    """Forwards TCP from a port of its own. Cut, it refuses; swallowing, it keeps connections open and silent."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.refusing = False
        self.connections = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    def cut(self) -> None:
        """Break every connection, and each new one."""
        self.refusing = True
        self._break()

    def swallow(self) -> None:
        """Let nothing through any more, and say nothing about it."""
        self._flowing.clear()

    def mend(self) -> None:
        """Let new connections through again; what hung goes on where it was."""
        self.refusing = False
        self._flowing.set()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        self._flowing.set()  # who waits goes on, and finds its connection broken
        await asyncio.gather(*self._ways)
        await self._server.wait_closed()

    def _break(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._ways.add(task)
        self._writers.add(writer)
        ends = [writer]
        try:
            await self._flowing.wait()
            if self.refusing:
                return
            self.connections += 1
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far_writer)
            ends.append(far_writer)
            ways = [asyncio.create_task(self._carry(*way)) for way in ((reader, far_writer), (far_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        except OSError:
            pass  # the other side is down: this one sees its connection end
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()
            self._ways.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
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
