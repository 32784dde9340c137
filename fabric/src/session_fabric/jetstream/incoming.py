"""What comes from the broker: a one-pass parser, and a transport that hands it bytes in the turn in which they come.

nats-py's own reads from a stream: what has come wakes a task, which sees it a turn of the event loop later. Here whole
messages of taps are taken out of each chunk as it arrives; that task has the rest: control lines, messages of other
subscriptions, and all that is still there while it deals with one of those.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from session_fabric.words.delivered import Message
from session_fabric.words.logs import log

# What is imported from another account comes with an empty reply: two spaces.
# `[^ \r]+` and not `[^ ]+`: four times faster, since it cannot run over the line's end.
_LINE = re.compile(rb"(H?)MSG ([^ \r]+) ([0-9]+)  ?(?:([^ \r]+) )??(?:([0-9]+) )?([0-9]+)\r\n")
# nats-server takes control lines of 4 KiB; its INFO in a large cluster is longer.
_LONGEST_LINE = 64 * 1024
_PORT = 4222


class OnePassParser(Parser):
    """Take whole messages out of each chunk by position; give every other line, whole, to nats-py's parser.

    What is not whole yet is kept here: nats-py's parser would go on with the rest of the chunk, past the taps.
    """

    def reset(self) -> None:
        super().reset()
        self._rest = b""

    async def parse(self, data: bytes = b"") -> None:
        data, at = self._taken(data, 0)
        while at < len(data):
            data, at = self._taken(data, await self._other(data, at))

    def take(self, data: bytes) -> bytes:
        """Hand messages to their taps, and return what begins with something that is for `parse`, if there is any."""
        data, at = self._taken(data, 0)
        return data[at:] if at else data

    def _taken(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Hand messages to their taps; return all there was to look at, and where what is for others begins."""
        if self._rest:
            data, self._rest = self._rest + data[at:], b""
            at = 0
        end = len(data)
        match, taps, many_taps = _LINE.match, self.nc._taps, self.nc._many_taps
        while at < end:
            line = match(data, at)
            if line is None:
                if data.find(b"\r\n", at, at + _LONGEST_LINE) < 0 and end - at < _LONGEST_LINE:
                    self._rest = data[at:]
                    return data, end
                return data, at
            with_head, subject, sid, reply, head_size, size = line.groups()
            start = line.end()
            body = start + int(size)
            if body + 2 > end:
                self._rest = data[at:]
                return data, end
            many = many_taps.get(sid) if many_taps else None
            if many is not None:
                split = start + int(head_size) if with_head else start
                messages = [(subject, reply or b"", data[start:split], data[split:body])]
                at = _take_alike(data, body + 2, sid, messages)
                try:
                    many(messages)
                except Exception:
                    log.exception("tap_failed")
                continue
            tap = taps.get(int(sid))
            if tap is None:
                return data, at
            at = body + 2
            split = start + int(head_size) if with_head else start
            try:
                tap(subject, reply or b"", data[start:split], data[split:body])
            except Exception:
                # An error here would end nats-py's read loop in silence, with `is_connected` still true.
                log.exception("tap_failed")
        return data, at

    async def _other(self, data: bytes, at: int) -> int:
        """Give nats-py the control line, or the message of no tap, that stands there; return what is behind it."""
        line = _LINE.match(data, at)
        if line is None:
            crlf = data.find(b"\r\n", at, at + _LONGEST_LINE)
            if crlf < 0:
                raise ProtocolError("a control line is too long")
            control = data[at : crlf + 2]
            if control[:3] == b"MSG" or control[:4] == b"HMSG":
                raise ProtocolError(f"not a message: {control[:80]!r}")
            await super().parse(control)
            return crlf + 2
        with_head, subject, sid, reply, head_size, size = line.groups()
        start = line.end()
        body = start + int(size)
        split = start + int(head_size) if with_head else start
        head = data[start:split] if with_head else None
        await self.nc._process_msg(int(sid), subject, reply or b"", data[split:body], head)
        return body + 2


def _take_alike(data: bytes, at: int, sid: bytes, messages: list[Message]) -> int:
    """Take the whole messages that follow at a place in a chunk, and are a subscription's; return where they end.

    Those with headers and a reply alone: a line is split in a third of the time that the expression takes.
    """
    end, find, add = len(data), data.find, messages.append
    while (line_end := find(b"\r\n", at)) > 0:
        words = data[at:line_end].split(b" ")
        if len(words) != 6 or words[2] != sid or words[0] != b"HMSG":
            break
        start = line_end + 2
        split, body = start + int(words[4]), start + int(words[5])
        if body + 2 > end:
            break
        add((words[1], words[3], data[start:split], data[split:body]))
        at = body + 2
    return at


class Arriving(asyncio.StreamReader):
    """A stream whose chunks are shown to `take` first, while somebody waits for them who has had all before them."""

    def __init__(self, limit: int, take: Callable[[bytes], bytes]) -> None:
        super().__init__(limit, asyncio.get_running_loop())
        self._take = take
        self._idle = False

    def feed_data(self, data: Any) -> None:
        if self._idle and (data := self._take(data)):
            self._idle = False
        if data:
            super().feed_data(data)

    async def read(self, n: int = -1) -> bytes:
        # Only nats-py's read loop reads so; what precedes it, the greeting of the broker, is read by lines.
        self._idle = not self._buffer  # type: ignore[attr-defined]
        try:
            return await super().read(n)
        finally:
            self._idle = False


class _OverTls(asyncio.StreamReaderProtocol):
    """asyncio's, which is not told of TLS that came later, and would have each end of such a connection logged."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class Tcp(TcpTransport):
    """nats-py's, which shows what comes to `take`, and leaves no socket open behind it: neither one that failed after
    it was made, nor one whose maker was cancelled at that moment (`asyncio.wait_for` of Python 3.11)."""

    def __init__(self, take: Callable[[bytes], bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._take = take

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        self.close()  # type: ignore[no-untyped-call]
        loop = asyncio.get_running_loop()
        reader = Arriving(buffer_size, self._take)
        async with asyncio.timeout(connect_timeout):
            transport, protocol = await loop.create_connection(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), uri.hostname or "", uri.port or _PORT
            )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        loop = asyncio.get_running_loop()
        bare: Any = self._io_writer
        reader = Arriving(buffer_size, self._take)
        protocol = _OverTls(reader, loop=loop)
        async with asyncio.timeout(connect_timeout):
            transport = await loop.start_tls(bare.transport, protocol, ssl_context, server_hostname=uri)
        assert transport is not None
        self._io_reader, self._io_writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def readline(self) -> bytes:
        """Read a line of the greeting; nats-py takes the end of a connection for a line that is empty."""
        line: bytes = await super().readline()  # type: ignore[no-untyped-call]
        if not line:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return line

    def write_now(self, chunks: list[bytes]) -> bool:
        """Write, unless something written before is still waiting for the broker to take it: then return False."""
        writer: Any = self._io_writer
        if writer is None or writer.transport.get_write_buffer_size() or writer.transport.is_closing():
            return False
        writer.writelines(chunks)
        return True
