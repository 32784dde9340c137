"""The AI SDK's resumable-stream, with Redis: an answer under way can be joined and come back to."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

import psutil

from bench.peers.crashes import Telling
from bench.peers.http import request
from bench.peers.peer import START, TAIL, Way, node_package
from bench.peers.servers import node, redis
from bench.sockets import MARK, read_until
from bench.viewers import Counter

_NOTHING: Final = "the text of a stream under way is in its process's memory; nothing of it is on disk"


class Resumable(Telling):
    name = "resumable"
    title = "AI SDK resumable-stream, Redis"
    keeps = "in memory of the process that streams, until the stream ends"
    client = "resumable"
    cannot: ClassVar[Mapping[str, str]] = {
        "append": _NOTHING,
        "append-many": _NOTHING,
        "conversation": "an answer that has ended is not kept",
        "idle-session": "there are streams under way, and no sessions",
    }

    def version(self) -> str:
        return f"resumable-stream {node_package('resumable-stream')}, redis {node_package('redis')}"

    @property
    def port(self) -> int:
        return self._port

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        self._streams: dict[str, Stream] = {}
        with (
            redis(directory) as (store, redis_port),
            node(
                "resumable.mjs",
                [],
                directory / "resumable.log",
                {"REDIS_URL": f"redis://127.0.0.1:{redis_port}"},
            ) as (process, port),
        ):
            self.processes, self._port = [psutil.Process(store.pid), process], port
            try:
                yield
            finally:
                for stream in self._streams.values():
                    stream.close()

    def make(self, topics: Sequence[str]) -> None:
        """A stream is there as long as it is written: open them all."""
        for topic in topics:
            self._streams[topic] = Stream(self._port, topic)

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        asked = request("GET", f"/{topic}" if after in (TAIL, START) else f"/{topic}?resumeAt={after}", self._port)
        return Way(self._port, [(asked, b"\r\n\r\n")])

    def place(self, heard: bytes) -> str:
        """The characters that have come: all are of texts of one length."""
        return str(heard.count(MARK) * self._length)

    def writer(self, topics: Sequence[str]) -> StreamsWriter:
        return StreamsWriter(self, {topic: self._streams[topic] for topic in topics})

    def wrote(self, length: int) -> None:
        self._length = length

    def agent(self, topic: str) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        head = f"POST /{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        return self._port, [(head + _chunk(b"begun"), b"begun")], b"\r\n0\r\n\r\n"


class Stream:
    """An answer under way, and the first viewer's side of it."""

    def __init__(self, port: int, topic: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST /{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._connection.sendall(head.encode())
        read_until(self._connection, b"", b"\r\n\r\n")
        self._counter = Counter()
        self._due = 0

    def send(self, texts: Sequence[bytes]) -> None:
        self._due += len(texts)
        self._connection.sendall(b"".join(map(_chunk, texts)))

    def read(self) -> None:
        """Read until what was sent has come back."""
        while self._counter.count < self._due:
            chunk = self._connection.recv(1 << 18)
            if not chunk:
                raise RuntimeError("resumable-stream's server closed the writer's connection")
            self._counter.take(chunk)

    def close(self) -> None:
        self._connection.close()


class StreamsWriter:
    """Writes into streams that are open, and reads back what the first viewer gets: there is no acknowledgement."""

    def __init__(self, peer: Resumable, streams: Mapping[str, Stream]) -> None:
        self._peer = peer
        self._streams = streams

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        by_topic: dict[str, list[bytes]] = {}
        for topic, text in items:
            by_topic.setdefault(topic, []).append(text)
        self._peer.wrote(len(items[0][1]))
        for topic, texts in by_topic.items():
            self._streams[topic].send(texts)
        for topic in by_topic:
            self._streams[topic].read()

    def close(self) -> None:
        """The streams go on until the servers end."""


def _chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)
