"""Raw sockets of the load generator: it has to be much cheaper than what it measures, so nothing is parsed."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final, Literal

# `plain`: the gateway too, for a client that did not ask for compact deltas.
Side = Literal["gateway", "plain", "listener"]
MASK: Final = b"\0\0\0\0"
# Stands in each measured text once and nowhere else. No single byte would do: a frame's length may be any, and the
# `~` that is the shortest of marks begins the length of every frame over 125 bytes.
MARK: Final = b"<~#>"


def client_frame(data: bytes, opcode: int = 1) -> bytes:
    """Frame a message as a WebSocket client (RFC 6455); the mask of zeros leaves the bytes as they are."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return bytes([0x80 | opcode]) + length + MASK + data


# A viewer that shows no sign of life for 15 s is closed by the gateway (docs/protocol.md section 7, 4409). This is one
# unasked, so that nobody has to look for pings in what arrives.
ALIVE: Final = client_frame(b"", 0xA)


def upgrade(port: int, path: str, protocol: str = "") -> bytes:
    """Spell the request for a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if protocol:
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def websocket(port: int, path: str, protocol: str = "") -> tuple[socket.socket, bytes]:
    """Open a WebSocket; return it and what has arrived behind the handshake."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(upgrade(port, path, protocol))
    head, rest = read_until(connection, b"", b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"no WebSocket on port {port}: {head[:200]!r}")
    return connection, rest


def read_until(connection: socket.socket, have: bytes, mark: bytes) -> tuple[bytes, bytes]:
    """Read until `mark`; return what is before and behind it."""
    while mark not in have:
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise RuntimeError(f"the connection was closed while waiting for {mark!r}: {have[-300:]!r}")
        have += chunk
    before, _, behind = have.partition(mark)
    return before, behind


def gateway_viewer(
    port: int, session: str, *, after: str = "tail", until: bytes = b'"op":"live"', compact: bool = True
) -> tuple[socket.socket, bytes]:
    """Open a session at the gateway; return the socket and all that came, at least up to `until`."""
    connection, rest = websocket(port, "/v1/ws", "session-fabric.v1")
    hello = {"op": "hello", "token": "", "device": f"bench-{os.urandom(4).hex()}", "client": "bench/1"}
    if compact:
        hello["deltas"] = "compact"
    opening = {"op": "open", "id": 1, "session": session, "after": after}
    connection.sendall(client_frame(json.dumps(hello).encode()) + client_frame(json.dumps(opening).encode()))
    before, behind = read_until(connection, rest, until)
    return connection, before + until + behind


def listener_viewer(port: int, subject: str) -> socket.socket:
    """Subscribe to a live subject at nats-server's own WebSocket listener."""
    connection, rest = websocket(port, "/")
    options = b'{"verbose":false,"pedantic":false,"headers":true,"no_responders":false,"lang":"bench","version":"1"}'
    connection.sendall(client_frame(b"CONNECT %b\r\nSUB %b 1\r\nPING\r\n" % (options, subject.encode()), 2))
    read_until(connection, rest, b"PONG\r\n")
    return connection


_ACKNOWLEDGED: Final = b'"seq":'


class Publisher:
    """Pipelined JetStream publishes over one plain connection; acknowledgements are counted, not parsed."""

    def __init__(self, port: int, *, timeout_s: float = 60.0) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_until(self._connection, b"", b"\r\n")
        options = b'{"verbose":false,"pedantic":false,"headers":true,"no_responders":false,"lang":"b","version":"1"}'
        self._connection.sendall(b"CONNECT %b\r\nSUB bench.ack 1\r\nPING\r\n" % options)
        read_until(self._connection, b"", b"PONG\r\n")

    def publish(self, messages: list[bytes], window: int = 400) -> None:
        """Publish all, at most `window` unacknowledged."""
        sent = acknowledged = 0
        rest = b""
        while acknowledged < len(messages):
            more = min(window - (sent - acknowledged), len(messages) - sent)
            if more > 0:
                self._connection.sendall(b"".join(messages[sent : sent + more]))
                sent += more
            came = self._connection.recv(1 << 20)
            if not came:
                raise RuntimeError("the broker closed the publisher's connection")
            answer = rest + came
            if b'"error"' in answer:
                raise RuntimeError(f"a publish was refused: {answer[:300]!r}")
            acknowledged += answer.count(_ACKNOWLEDGED)
            rest = answer[1 - len(_ACKNOWLEDGED) :]  # one may come in two parts

    def fill(self, messages: Iterable[bytes]) -> None:
        """Publish what is made meanwhile, some thousands at a time."""
        left = iter(messages)
        while several := list(islice(left, 5000)):
            self.publish(several, window=2000)

    def close(self) -> None:
        self._connection.close()


def publication(subject: str, headers: dict[str, str], payload: bytes) -> bytes:
    """Spell one publish with headers, acknowledged to the publisher's inbox."""
    head = b"NATS/1.0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers.items()) + b"\r\n"
    size = len(head) + len(payload)
    return b"HPUB %b bench.ack %d %d\r\n%b%b\r\n" % (subject.encode(), len(head), size, head, payload)
