"""Cloudflare's workerd: a Durable Object for each session, its log in SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.peers.crashes import Telling
from bench.peers.peer import NODE, START, TAIL, Missing, Way, node_package
from bench.peers.servers import free_port, server
from bench.sockets import client_frame, read_until, upgrade, websocket
from bench.stage import SERVING_CORE

_ID: Final = re.compile(rb'"id":(\d+)')
_ACKNOWLEDGED: Final = b'{"ok":1}'


class Workerd(Telling):
    name = "workerd"
    title = "Cloudflare workerd, a Durable Object for each session"
    keeps = "on disk (SQLite of the object; synced before each acknowledgement)"
    client = "workerd"

    def version(self) -> str:
        return f"workerd {node_package('workerd')}"

    @property
    def port(self) -> int:
        return self._port

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        node_package("workerd")
        found = sorted((NODE / "node_modules" / "@cloudflare").glob("workerd-*/bin/workerd"))
        if not found:
            raise Missing("workerd has no program for this machine in its npm package")
        self._port = free_port()
        kept = directory / "objects"
        kept.mkdir()
        command = [str(found[0]), "serve", str(NODE / "workerd.capnp"), f"--directory-path=kept={kept}"]
        command.append(f"--socket-addr=http=127.0.0.1:{self._port}")
        with server(command, directory / "workerd.log", SERVING_CORE, self._port) as process:
            self.processes = [process]
            yield

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        since = "" if after == TAIL else f"&after={0 if after == START else after}"
        asked = upgrade(self._port, f"/{topic}?as=viewer{since}")
        turns = [(asked, b"\r\n\r\n")]
        return Way(self._port, [*turns, (b"", b'{"live":true}')] if after == TAIL else turns)

    def place(self, heard: bytes) -> str:
        return str(_ID.findall(heard)[-1], "ascii")

    def writer(self, topics: Sequence[str]) -> SocketWriter:
        return SocketWriter(self._port, topics)

    def agent(self, topic: str) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        return self._port, [(upgrade(self._port, f"/{topic}?as=agent"), b'{"live":true}')], b'{"gone":true}'


class SocketWriter:
    """An agent's connection to each object; each message is acknowledged."""

    def __init__(self, port: int, topics: Sequence[str]) -> None:
        self._connections = {}
        for topic in topics:
            connection, rest = websocket(port, f"/{topic}?as=agent")
            read_until(connection, rest, b'{"live":true}')
            connection.settimeout(60)
            self._connections[topic] = connection

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        by_topic: dict[str, list[bytes]] = {}
        for topic, text in items:
            by_topic.setdefault(topic, []).append(client_frame(text))
        for topic, frames in by_topic.items():
            self._connections[topic].sendall(b"".join(frames))
        for topic, frames in by_topic.items():
            acknowledged, tail = 0, b""
            while acknowledged < len(frames):
                chunk = self._connections[topic].recv(1 << 16)
                if not chunk:
                    raise RuntimeError("workerd closed the writer's connection")
                tail += chunk
                acknowledged += tail.count(_ACKNOWLEDGED)
                tail = tail[-len(_ACKNOWLEDGED) + 1 :]  # too short for one, so none counts twice

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
