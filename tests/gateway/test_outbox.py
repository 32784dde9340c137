"""What an outbox writes ahead of a tick's end arrives sooner, and never in another order."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import uvloop
from aiohttp import web
from session_fabric_gateway.outbox import Outbox, Sender

from tests.support.certificates import Authority
from tests.support.waiting import eventually

Loops = Callable[[], asyncio.AbstractEventLoop]
loops = pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop])


class _Protocol(asyncio.Protocol):
    """Says as aiohttp's does whether its transport takes more."""

    writing_paused = False

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False


class House:
    """An outbox, its transport, and the peer's socket."""

    def __init__(self, sender: Sender, transport: asyncio.Transport, protocol: _Protocol, peer: socket.socket) -> None:
        self.transport, self.peer, self.protocol = transport, peer, protocol
        asked = SimpleNamespace(transport=transport, protocol=protocol, writer=None)
        self.box = Outbox(sender, cast(web.Request, asked), lambda: None)

    def read(self) -> bytes:
        """Return what has arrived so far."""
        try:
            return self.peer.recv(1 << 20)
        except BlockingIOError:
            return b""


def in_a_house(loops: Loops, visit: Callable[[Callable[[], Awaitable[House]]], Awaitable[None]]) -> None:
    async def run() -> None:
        sender, made = Sender(), []

        async def house() -> House:
            ours, peer = socket.socketpair()
            peer.setblocking(False)
            transport, protocol = await asyncio.get_running_loop().create_connection(_Protocol, sock=ours)
            made.append((transport, peer))
            return House(sender, transport, protocol, peer)

        try:
            await visit(house)
        finally:
            for transport, peer in made:
                transport.abort()
                peer.close()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(run())


@loops
def test_the_first_of_a_tick_is_written_at_once_and_what_follows_in_one_write(loops: Loops) -> None:
    async def visit(house: Callable[[], Awaitable[House]]) -> None:
        one = await house()
        for _ in range(3):
            one.box.put_first(b"a")
            one.box.put_first(b"b")
            one.box.put(b"c")
            one.box.put_first(b"d")
            assert one.read() == b"a"
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert one.read() == b"bcd"

    in_a_house(loops, visit)


@loops
@pytest.mark.parametrize("seed", range(5))
def test_everything_arrives_once_and_in_order_whoever_writes_it_and_however_slowly_it_is_read(
    loops: Loops, seed: int
) -> None:
    async def visit(house: Callable[[], Awaitable[House]]) -> None:
        one, chosen = await house(), random.Random(seed)
        said, heard = [], []
        # What aiohttp writes itself, a pong, goes straight to the transport.
        ways = [one.box.put_first, one.box.put_first, one.box.put, lambda data: (one.box.flush(), write(data))]
        write = one.transport.write
        for number in range(400):
            data = b"%d " % number * chosen.choice([1, 10, 20_000])
            said.append(data)
            chosen.choice(ways)(data)
            if chosen.random() < 0.5:
                await asyncio.sleep(0)
            if chosen.random() < 0.3:
                heard.append(one.read())
        one.box.flush()
        whole = b"".join(said)
        async with asyncio.timeout(20):
            while sum(map(len, heard)) < len(whole):
                heard.append(one.read())
                await asyncio.sleep(0)
        assert b"".join(heard) == whole
        assert one.box.sender.written_bytes <= len(whole)

    in_a_house(loops, visit)


@loops
def test_who_has_too_much_in_a_tick_leaves_the_rest_to_its_end(loops: Loops) -> None:
    async def visit(house: Callable[[], Awaitable[House]]) -> None:
        several = [await house() for _ in range(80)]
        for one in several:
            one.box.put_first(b"a")
        at_once = [one.read() for one in several]
        assert at_once == [b"a"] * 64 + [b""] * 16
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [one.read() for one in several] == [b""] * 64 + [b"a"] * 16

    in_a_house(loops, visit)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@loops
def test_nothing_is_written_to_a_transport_that_closes(loops: Loops) -> None:
    async def visit(house: Callable[[], Awaitable[House]]) -> None:
        one = await house()
        reading, writing = os.pipe2(os.O_NONBLOCK)
        number = one.transport.get_extra_info("socket").fileno()
        one.transport.abort()
        one.box.put_first(b"a")
        await eventually(lambda: not _is_open(number))
        os.dup2(writing, number)  # another file has its number now, as another client's connection may
        try:
            one.box.put_first(b"a")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(BlockingIOError):
                os.read(reading, 1)
        finally:
            for each in (reading, writing, number):
                os.close(each)

    in_a_house(loops, visit)


@loops
def test_nothing_is_written_behind_the_end(loops: Loops) -> None:
    async def visit(house: Callable[[], Awaitable[House]]) -> None:
        one = await house()
        one.box.put(b"a")
        one.box.shut()
        one.box.put_first(b"b")
        one.box.put(b"c")
        one.box.pending.append(b"d")
        one.box.flush()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert one.read() == b"a"

    in_a_house(loops, visit)


@loops
def test_a_peer_that_is_gone_is_the_transports_to_find(loops: Loops) -> None:
    async def visit(house: Callable[[], Awaitable[House]]) -> None:
        one = await house()
        one.peer.close()
        one.box.put_first(b"a")
        await eventually(one.transport.is_closing)

    in_a_house(loops, visit)


@loops
def test_what_is_enciphered_goes_through_its_transport(loops: Loops, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    pair = authority.issue("gateway")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.cert, pair.key)

    async def run() -> None:
        protocols: asyncio.Queue[_Tls] = asyncio.Queue()
        loop, sender = asyncio.get_running_loop(), Sender()
        async with await loop.create_server(lambda: _Tls(protocols), "127.0.0.1", 0, ssl=server) as listening:
            port = listening.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.client())
            protocol = await protocols.get()
            asked = SimpleNamespace(transport=protocol.transport, protocol=protocol, writer=None)
            box = Outbox(sender, cast(web.Request, asked), lambda: None)
            for letter in (b"a", b"b"):
                box.put_first(letter)
                async with asyncio.timeout(10):
                    assert await reader.readexactly(1) == letter
            protocol.transport.abort()
            writer.transport.abort()

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(run())


class _Tls(_Protocol):
    """Says when a client has come."""

    def __init__(self, made: asyncio.Queue[_Tls]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._made.put_nowait(self)


@loops
def test_a_stream_in_chunks_is_written_at_the_end_of_the_tick(loops: Loops) -> None:
    async def visit(house: Callable[[], Awaitable[House]]) -> None:
        one = await house()
        one.box.chunked = True
        one.box.put_first(b"a")
        assert one.read() == b""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert one.read() == b"1\r\na\r\n"

    in_a_house(loops, visit)
