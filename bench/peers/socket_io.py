"""Socket.IO with the Redis Streams adapter and connection state recovery."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

import psutil

from bench.peers.crashes import Telling
from bench.peers.peer import TAIL, Way, node_package
from bench.peers.servers import node, redis
from bench.sockets import client_frame, read_until, upgrade, websocket

_PATH: Final = "/socket.io/?EIO=4&transport=websocket"
_PID: Final = re.compile(rb'"pid":"([^"]+)"')
_OFFSET: Final = re.compile(rb'"(\d{13}-\d+)"\]')
_ACKNOWLEDGED: Final = b"\x05437[]"  # a frame of five bytes: the answer to an append
_NEW: Final = "recovery is for those who were there; who is new gets what comes"


class SocketIo(Telling):
    name = "socketio"
    title = "Socket.IO, Redis Streams adapter, connection state recovery"
    keeps = (
        "on disk (Redis, append-only file synced every second), the last 100,000 packets for two minutes; "
        "acknowledged before it is stored"
    )
    client = "socketio"
    stored: ClassVar[bool] = False
    fsync: ClassVar[str] = "everysec"
    cannot: ClassVar[Mapping[str, str]] = {"latejoin": _NEW, "conversation": _NEW}
    trailer = 20  # the text's end, and the packet's offset

    def version(self) -> str:
        adapter = node_package("@socket.io/redis-streams-adapter")
        return f"socket.io {node_package('socket.io')}, @socket.io/redis-streams-adapter {adapter}"

    @property
    def port(self) -> int:
        return self._port

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        with (
            redis(directory, self.fsync) as (store, redis_port),
            node("socketio.mjs", [str(redis_port), *["stored"] * self.stored], directory / "socketio.log") as found,
        ):
            process, self._port = found
            self.processes = [psutil.Process(store.pid), process]
            yield

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        opening = [(upgrade(self._port, _PATH), b'0{"sid"')]
        # Its ping, each 25 s, is answered ahead.
        alive = client_frame(b"3")
        if after == TAIL:
            joining = client_frame(b'420["join","%b"]' % topic.encode())
            return Way(self._port, [*opening, (client_frame(b"40"), b'40{"sid"'), (joining, b"430[")], alive)
        pid, offset = after.split()
        back = client_frame(b'40{"pid":"%b","offset":"%b"}' % (pid.encode(), offset.encode()))
        return Way(self._port, [*opening, (back, b'40{"sid"')], alive)

    def place(self, heard: bytes) -> str:
        """Recovery asks for the private id of the connection that was lost, and its last packet's offset."""
        return f"{_PID.findall(heard)[-1].decode()} {_OFFSET.findall(heard)[-1].decode()}"

    def writer(self, topics: Sequence[str]) -> Emitter:
        return Emitter(self._port)

    def agent(self, topic: str) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        way = self.way(topic, "agent")
        writing = client_frame(b'421["write","%b"]' % topic.encode())
        return self._port, [*way.turns, (writing, b"431[")], b'"gone"'


class SocketIoStored(SocketIo):
    """Acknowledged as the others whose appends are durable: when it is stored."""

    name = "socketio-stored"
    title = "Socket.IO whose server acknowledges when Redis has answered"
    keeps = "on disk (Redis, append-only file synced every second); acknowledged when it is written to the file"
    only = ("append", "append-many")
    stored = True


class SocketIoSynced(SocketIoStored):
    name = "socketio-synced"
    title = "Socket.IO whose server acknowledges when Redis has answered, `appendfsync always`"
    keeps = "on disk (Redis, append-only file; synced before each acknowledgement)"
    fsync = "always"


class Emitter:
    """A client that emits with acknowledgements: the server has broadcast, by way of Redis."""

    def __init__(self, port: int) -> None:
        self._connection, rest = websocket(port, _PATH)
        rest = read_until(self._connection, rest, b'0{"sid"')[1]
        self._connection.sendall(client_frame(b"40"))
        read_until(self._connection, rest, b'40{"sid"')
        self._connection.settimeout(60)

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        said = (client_frame(b'427["append","%b","%b"]' % (topic.encode(), text)) for topic, text in items)
        self._connection.sendall(b"".join(said))
        acknowledged, tail = 0, b""
        while acknowledged < len(items):
            chunk = self._connection.recv(1 << 16)
            if not chunk:
                raise RuntimeError("socket.io closed the writer's connection")
            tail += chunk
            acknowledged += tail.count(_ACKNOWLEDGED)
            tail = tail[-len(_ACKNOWLEDGED) + 1 :]  # too short for one, so none counts twice

    def close(self) -> None:
        self._connection.close()
