"""Frames of a socket as nobody's client sends them: bytes of RFC 6455, right and wrong."""

from __future__ import annotations

import struct
from random import Random
from typing import Final

from tests.fuzz.asked import FRAMES
from tests.fuzz.mutations import mutated

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


def frame(
    random: Random, opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, reserved: int = 0
) -> bytes:
    """Spell one frame."""
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask | len(payload)])
    elif len(payload) < 65536:
        head += struct.pack("!BH", mask | 126, len(payload))
    else:
        head += struct.pack("!BQ", mask | 127, len(payload))
    if not masked:
        return head + payload
    key = random.randbytes(4)
    long = key * (len(payload) // 4 + 1)
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(long[: len(payload)])).to_bytes(len(payload))


def text(random: Random, payload: bytes) -> bytes:
    """Spell a message, at times in fragments with a ping between them."""
    if random.random() < 0.8 or len(payload) < 2:
        return frame(random, TEXT, payload)
    cuts = sorted(random.randrange(len(payload)) for _ in range(random.randint(1, 4)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    out = b""
    for number, part in enumerate(parts):
        out += frame(random, TEXT if number == 0 else 0, part, final=number == len(parts) - 1)
        if random.random() < 0.3 and number < len(parts) - 1:
            out += frame(random, PING, random.randbytes(random.randint(0, 125)))
    return out


def stranger(random: Random) -> bytes:
    """Spell what a client that keeps to the protocol of WebSocket may send, and ours has no use for."""
    match random.randrange(4):
        case 0:
            return frame(random, PING, random.randbytes(random.randint(0, 125)))
        case 1:
            return frame(random, PONG, random.randbytes(random.randint(0, 125)))
        case 2:
            return text(random, b"")
        case _:
            return text(random, mutated(random, FRAMES))


def broken(random: Random) -> bytes:
    """Spell what ends a connection: wrong frames, a close that is none, text that is not UTF-8, plain noise."""
    payload = random.randbytes(random.randint(0, 200))
    match random.randrange(11):
        case 0:
            return frame(random, BINARY, payload)
        case 1:
            return frame(random, TEXT, b"\xc0\x80" + payload)
        case 2:
            return frame(random, random.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), payload)
        case 3:
            return frame(random, TEXT, b'{"op":"ping"}', reserved=random.randint(1, 7))
        case 4:
            return frame(random, TEXT, b'{"op":"ping"}', masked=False)
        case 5:
            return frame(random, PING, payload, final=False)
        case 6:
            return frame(random, PING, payload + bytes(126))
        case 7:
            return frame(random, 0, payload)
        case 8:
            code = random.choice((0, 999, 1000, 1004, 1005, 1006, 1015, 2999, 3000, 4999, 5000, 65535))
            return frame(random, CLOSE, struct.pack("!H", code) + random.choice((b"", b"why", b"\xff\xfe")))
        case 9:
            # A length that never comes, or that no number can be.
            size = random.choice((2**63 - 1, 2**63, 2**64 - 1, 9 * 1024 * 1024, 2**31))
            return struct.pack("!BBQ", 0x81, 0xFF, size) + random.randbytes(12)
        case _:
            return random.randbytes(random.randint(1, 400))
