"""The links between hosts, and hosts on networks of their own: what is done to them is what comes of it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fault.hosts import hosts, why_not
from tests.support.link import Link, Way


@asynccontextmanager
async def echo(host: str = "127.0.0.1") -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def linked(*targets: int) -> AsyncIterator[Link]:
    link = Link(*targets)
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


class Dialled:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, line: bytes) -> None:
        self._writer.write(line + b"\n")

    async def heard(self, timeout_s: float = 5.0) -> bytes | None:
        """Return the next line; None: nothing came."""
        try:
            async with asyncio.timeout(timeout_s):
                return (await self._reader.readline()).strip()
        except TimeoutError:
            return None


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[Dialled]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Dialled(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("way", ["both", "up", "down"])
async def test_what_a_link_swallows_comes_when_it_is_mended(way: Way) -> None:
    async with echo() as port, linked(port) as link, dialled(link.port) as end:
        end.say(b"one")
        assert await end.heard() == b"one"
        link.swallow(way)
        end.say(b"two")
        assert await end.heard(0.2) is None
        link.mend()
        assert await end.heard() == b"two"


async def test_a_link_that_is_reset_breaks_its_connections_and_takes_new_ones() -> None:
    async with echo() as port, linked(port) as link, dialled(link.port) as end:
        end.say(b"one")
        assert await end.heard() == b"one"
        link.reset()
        with pytest.raises(ConnectionError):
            assert await end.heard() == b""
            raise ConnectionError("it has ended in order")
        async with dialled(link.port) as another:
            another.say(b"two")
            assert await another.heard() == b"two"


async def test_a_link_has_each_connection_go_to_the_next_target() -> None:
    async with echo() as one, echo() as two, linked(one, two) as link:
        for _ in range(2):
            async with dialled(link.port) as end:
                end.say(b"here")
                assert await end.heard() == b"here"
        assert link.connections == 2


async def test_a_slow_link_lets_one_wait() -> None:
    async with echo() as port, linked(port) as link, dialled(link.port) as end:
        link.delay_s = 0.1
        begun = time.monotonic()
        end.say(b"one")
        assert await end.heard() == b"one"
        assert time.monotonic() - begun >= 0.1  # 0.05 at least each way


def test_a_host_that_is_cut_off_is_reached_by_nobody_until_it_is_mended() -> None:
    separate = why_not() is None
    with hosts(["one", "two"], separate=separate) as net:
        one, two = net["one"], net["two"]
        if not separate:
            with pytest.raises(AssertionError, match="no network of its own"):
                two.cut("both")
            return
        with two.entered():
            listening = socket.create_server((two.address, 0))
        address = listening.getsockname()

        def reached(timeout_s: float) -> bool:
            with one.entered():
                dialling = socket.socket()
            with dialling:
                dialling.settimeout(timeout_s)
                try:
                    dialling.connect(address)
                except TimeoutError:
                    return False
                return True

        with listening:
            assert reached(5)
            for way in ("both", "in", "out"):
                two.cut(way)
                assert not reached(0.3), way
                two.mend()
                assert reached(5)
