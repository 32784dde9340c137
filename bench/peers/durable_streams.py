"""The reference server of Durable Streams, in memory and on its file store; viewers follow by server-sent events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from bench.peers.http import Http, request
from bench.peers.peer import START, TAIL, Peer, Way, node_package
from bench.peers.servers import node

_GONE: Final = "the protocol says nothing of a writer that has died"
_OFFSET: Final = re.compile(rb'"streamNextOffset":"([^"]+)"')


class DurableFile(Peer):
    name = "durable-file"
    title = "Durable Streams reference server, file store"
    keeps = "on disk (log files, LMDB; synced before each acknowledgement)"
    client = "durable"
    cannot: ClassVar[Mapping[str, str]] = {"crash": _GONE, "vanish": _GONE}
    trailer = 60  # the text's end, and a control event with the offset
    on_disk = True

    def version(self) -> str:
        return f"@durable-streams/server {node_package('@durable-streams/server')}"

    @property
    def port(self) -> int:
        return self._port

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        arguments = [str(directory / "streams")] if self.on_disk else []
        with node("durable.mjs", arguments, directory / "durable.log") as (process, port):
            self.processes, self._port = [process], port
            yield

    def make(self, topics: Sequence[str]) -> None:
        http = Http(self._port)
        for topic in topics:
            http.ask("PUT", _path(topic), b"[]")
        http.close()

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        offset = {TAIL: "now", START: "-1"}.get(after, after)
        asked = request("GET", f"{_path(topic)}?offset={offset}&live=sse", self._port)
        # Where nothing is caught up on, the first control event says that it listens.
        return Way(self._port, [(asked, b"event: control" if after == TAIL else b"\r\n\r\n")])

    def place(self, heard: bytes) -> str:
        return str(_OFFSET.findall(heard)[-1], "ascii")

    def writer(self, topics: Sequence[str]) -> Poster:
        return Poster(self._port, topics)


class DurableMemory(DurableFile):
    name = "durable-memory"
    title = "Durable Streams reference server, in memory"
    keeps = "in memory"
    cannot: ClassVar[Mapping[str, str]] = {
        **DurableFile.cannot,
        "append": "keeps in memory alone",
        "append-many": "keeps in memory alone",
    }
    on_disk = False


class Poster:
    """A connection for each topic; what there is for one goes in one request, as its idempotent producer does."""

    def __init__(self, port: int, topics: Sequence[str]) -> None:
        self._connections = {topic: Http(port) for topic in topics}

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        by_topic: dict[str, list[bytes]] = {}
        for topic, text in items:
            by_topic.setdefault(topic, []).append(b'"%b"' % text)
        for topic, texts in by_topic.items():
            self._connections[topic].send("POST", _path(topic), b"[" + b",".join(texts) + b"]")
        for topic in by_topic:
            self._connections[topic].answer()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def _path(topic: str) -> str:
    return f"/v1/stream/{topic}"
