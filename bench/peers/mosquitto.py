"""MQTT: mosquitto, with persistent sessions at QoS 1, over WebSockets."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from bench.peers.crashes import Telling
from bench.peers.crowd import come_all
from bench.peers.peer import TAIL, Way, program
from bench.peers.servers import free_port, server
from bench.sockets import client_frame, read_until, upgrade
from bench.stage import SERVING_CORE

# An unbounded queue for those who are away: by default it drops what is beyond a thousand messages.
_CONFIG: Final = """listener {tcp} 127.0.0.1
listener {websocket} 127.0.0.1
protocol websockets
allow_anonymous true
persistence true
persistence_location {directory}/
max_queued_messages 0
set_tcp_nodelay true
"""
_DISK: Final = "a PUBACK says that it is in memory; persistence is a snapshot, every 30 minutes by default"
_NEW: Final = "the queue is for clients who were there; who is new gets what comes"
_KEEP_ALIVE_S: Final = 60  # as MQTT.js has it by default
_PING: Final = client_frame(b"\xc0\x00", 2)
_CONNACK: Final = b"\x20\x02"


class Mosquitto(Telling):
    name = "mqtt"
    title = "mosquitto, MQTT persistent sessions, QoS 1"
    keeps = "in memory (a snapshot on disk every 30 minutes), for clients who were there"
    client = "mqtt"
    cannot: ClassVar[Mapping[str, str]] = {
        "append": _DISK,
        "append-many": _DISK,
        "latejoin": _NEW,
        "conversation": _NEW,
    }

    def version(self) -> str:
        binary = program("mosquitto", "Debian: mosquitto")
        told = subprocess.run([binary, "-h"], capture_output=True, text=True).stdout
        found = re.search(r"mosquitto version ([\d.]+)", told)
        return f"mosquitto {found.group(1) if found else '?'}"

    @property
    def port(self) -> int:
        return self._websocket

    @contextmanager
    def running(self, directory: Path) -> Iterator[None]:
        binary = program("mosquitto", "Debian: mosquitto")
        self._tcp, self._websocket = free_port(), free_port()
        kept = directory / "mosquitto"
        kept.mkdir()
        kept.chmod(0o777)  # started by root, it goes on as a user of its own
        directory.chmod(0o755)
        config = directory / "mosquitto.conf"
        config.write_text(_CONFIG.format(tcp=self._tcp, websocket=self._websocket, directory=kept))
        with server([binary, "-c", str(config)], directory / "mqtt.log", SERVING_CORE, self._websocket) as process:
            self.processes = [process]
            yield

    def way(self, topic: str, client: str, after: str = TAIL) -> Way:
        """Connect under a name that stays; whoever is back has the subscription, and gets what was queued."""
        connect = client_frame(_connect(client, clean=False), 2)
        turns = [(upgrade(self._websocket, "/mqtt", "mqtt"), b"\r\n\r\n"), (connect, _CONNACK)]
        if after == TAIL:
            # SUBACK of packet 1.
            turns.append((client_frame(_subscribe(topic), 2), b"\x90\x03\x00\x01"))
        return Way(self._websocket, turns, _PING, confirms=True)

    def place(self, heard: bytes) -> str:
        return "back"

    def writer(self, topics: Sequence[str]) -> MqttWriter:
        return MqttWriter(self._tcp)

    def idle(self, topics: Sequence[str], text: bytes) -> None:
        """A session is a client's who is away, with its subscription and what waits for it."""
        for connection, _ in come_all([self.way(topic, f"away-{topic}") for topic in topics]):
            connection.close()
        super().idle(topics, text)

    def agent(self, topic: str) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        """An agent whose last will says that it is gone."""
        return self._tcp, [(_connect(f"agent-{topic}", clean=True, will=topic), _CONNACK)], b"gone"


class MqttWriter:
    """Publishes at QoS 1, at most as many unconfirmed as a write has."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(_connect(f"writer-{id(self)}", clean=True))
        rest = read_until(self._connection, b"", _CONNACK)[1]
        while len(rest) < 2:  # its flags and its code
            rest += self._connection.recv(2 - len(rest))
        self._number = 0

    def write(self, items: Sequence[tuple[str, bytes]]) -> None:
        # At most twenty under way, as the protocol's servers and clients have it by default.
        for first in range(0, len(items), 20):
            some = items[first : first + 20]
            self._connection.sendall(b"".join(self._publish(topic, text) for topic, text in some))
            confirmed = 0
            while confirmed < 4 * len(some):
                confirmed += len(self._connection.recv(1 << 16))

    def _publish(self, topic: str, text: bytes) -> bytes:
        self._number = self._number % 0xFFFF + 1
        return _packet(0x32, _string(topic) + struct.pack(">H", self._number) + text)

    def close(self) -> None:
        self._connection.close()


def _string(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def _connect(client: str, *, clean: bool, will: str = "") -> bytes:
    flags = (0x02 if clean else 0) | (0x0C if will else 0)  # a will at QoS 1
    last = _string(will) + _string("gone") if will else b""
    head = _string("MQTT") + bytes([4, flags]) + struct.pack(">H", _KEEP_ALIVE_S)
    return _packet(0x10, head + _string(client) + last)


def _subscribe(topic: str) -> bytes:
    return _packet(0x82, b"\x00\x01" + _string(topic) + b"\x01")
