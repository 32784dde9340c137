"""HTTP on raw sockets: requests that wait for nothing but their answers' ends."""

from __future__ import annotations

import re
import socket
from typing import Final

from bench.sockets import read_until

_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)


def request(method: str, path: str, port: int, body: bytes = b"", kind: str = "application/json") -> bytes:
    length = f"Content-Length: {len(body)}\r\nContent-Type: {kind}\r\n" if method != "GET" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}\r\n".encode() + body


class Http:
    """One connection that is kept. `send` and `answer` are apart, so that many can wait at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        self._connection.sendall(request(method, path, self.port, body))

    def answer(self) -> tuple[bytes, bytes]:
        """Return head and body; raise `RuntimeError` for what is no success."""
        head, self._rest = read_until(self._connection, self._rest, b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        body = b""
        if (length := _LENGTH.search(head)) is not None:
            while len(self._rest) < int(length.group(1)):
                self._rest += self._more()
            body, self._rest = self._rest[: int(length.group(1))], self._rest[int(length.group(1)) :]
        elif _CHUNKED.search(head):
            while True:
                size, self._rest = read_until(self._connection, self._rest, b"\r\n")
                wanted = int(size, 16) + 2
                while len(self._rest) < wanted:
                    self._rest += self._more()
                body += self._rest[: wanted - 2]
                self._rest = self._rest[wanted:]
                if wanted == 2:
                    break
        if status >= 300:
            raise RuntimeError(f"{status} of port {self.port}: {body[:300]!r}")
        return head, body

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[bytes, bytes]:
        self.send(method, path, body)
        return self.answer()

    def _more(self) -> bytes:
        chunk = self._connection.recv(1 << 18)
        if not chunk:
            raise RuntimeError(f"port {self.port} closed the connection in the middle of an answer")
        return chunk

    def close(self) -> None:
        self._connection.close()
