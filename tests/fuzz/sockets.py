"""A try on a socket: a handshake, a hello that is good or nearly, operations that are nearly good, and how it ends."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from random import Random
from typing import Final

import orjson

from tests.fuzz.asked import FRAMES
from tests.fuzz.frames import CLOSE, PING, TEXT, broken, frame, stranger, text
from tests.fuzz.living import Living
from tests.fuzz.mutations import mutated

# For what may never come, as where the frame before it said that there is more of it.
_PATIENCE_S: Final = 1.0
_LAST: Final = 2**53 - 1
_WHO: Final = ("user:ada", "user:bob", "agent:writer", "operator:eve", "service:x")
# What RFC 6455 has for what its parser refuses, and ours (docs/protocol.md).
_CLOSES: Final = frozenset({1000, 1002, 1003, 1007, 1009, 4408, 4409, 4411, 4500, 4501, 4502, 4503})


async def attempt(one: Living, random: Random) -> None:
    """Make one connection's life. Raises `AssertionError` for an answer that no client should get."""
    reader, writer = await asyncio.open_connection(*one.address, limit=2**24)
    try:
        key = base64.b64encode(random.randbytes(16)).decode()
        head = "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        head += f"Sec-WebSocket-Key: {key}\r\n"
        writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: session-fabric.v1\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        hello = {"op": "hello", "token": one.token(random.choice(_WHO)), "device": random.choice(("d1", "d2"))}
        data = orjson.dumps(hello)
        writer.write(text(random, data if random.random() < 0.9 else mutated(random, (data,))))
        for _ in range(random.randint(1, 40)):
            if random.random() < 0.15:
                writer.write(stranger(random))
            else:
                known = random.choice(FRAMES)
                writer.write(text(random, known if random.random() < 0.4 else mutated(random, (known,))))
        if random.random() < 0.3:
            writer.write(broken(random))
        writer.write(frame(random, TEXT, orjson.dumps({"op": "ping", "id": _LAST})))
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await writer.drain()
                while await _answered(one, reader):
                    pass
        if random.random() < 0.5:
            with suppress(ConnectionError):
                writer.write(frame(random, CLOSE, b"\x03\xe8"))
                await writer.drain()
    finally:
        writer.transport.abort()


async def _answered(one: Living, reader: asyncio.StreamReader) -> bool:
    """Read one frame; say whether more may come."""
    first, size = await reader.readexactly(2)
    assert first & 0x70 == 0, f"a frame of the gateway begins with {first:#x}"
    assert size < 128, "a frame of the gateway is masked"
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
    payload = await reader.readexactly(size)
    match first & 0x0F:
        case 1:
            told = orjson.loads(payload)
            if isinstance(told, dict) and told["op"] == "error":
                one.told(told["code"], len(payload), told)
            return not (isinstance(told, dict) and told.get("id") == _LAST and told["op"] in ("pong", "error"))
        case 8:
            code = int.from_bytes(payload[:2]) if payload else 1000
            assert code in _CLOSES, f"closed with {code} {payload[2:]!r}"
            return False
        case other:
            assert other in (PING, PING + 1), f"a frame of the kind {other}"
            return True
