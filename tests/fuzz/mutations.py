"""Turns good input into input that is nearly good, by a `random.Random`: the same one, the same mutants."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final

# Stand for what json cannot spell, or what would be too deep for it; replaced in what it has spelled.
_DEEP: Final = "@deep:"
_RAW: Final = "@raw:"
# Around the depths at which orjson (254, 1024), Python (1000) and our own rules (3, 8) stop.
_DEPTHS: Final = (3, 8, 9, 60, 200, 253, 255, 300, 900, 990, 1100, 5000)
_NUMBERS: Final = ("1e999", "-0.0", "9" * 400, "1E400", "0.1e-400", "NaN", "Infinity", "-", "01", "1" + "0" * 5000)

# Texts at which something that reads text may stumble.
TEXTS: Final = (
    "", "\0", "a" * 129, "x" * 5000, " ", "\ud800", "\udc80x", "\u2028", "\U0001f600" * 40, "٣" * 16, "é", "ａ",
    "*", ">", "a.b", "a*", "../..", "%00", "=41", "=", "=ZZ", "\r\nX: y", "\n\ndata: x", "role:user", "pool:x",
    "user:", "user:\ud800", "service:gateway", "agent:a b", "start", "tail", "null", "true", "constructor",
    "__proto__", "self", "0" * 16 + "_" + "0" * 16, "9" * 16 + "_" + "9" * 16, "٣" * 16 + "_" + "٣" * 16,
    "000000001" + "9" * 4000, "0" * 4400, "-1", "1e3", "²", "100000000000000000000", "control:*", "state:*", "state:",
    "{}", "{document}", "{0.__class__}", "%s", "=?utf-8?", "::1%eth0", "[::1", "::ffff:1.2.3.4", "1.2.3.4:5:6",
    "2026-13-45T99:99:99.9Z", "=FF", "=ED=A0=80",
)  # fmt: skip
_WEIRD: Final[tuple[Any, ...]] = (
    *TEXTS, None, True, False, 0, -1, 1.5, 1e308, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, [], {}, [[]], [None],
    {"": None}, [1] * 300, {str(n): n for n in range(300)}, ["a"] * 33,
    *(f"{_DEEP}{kind}{depth}@" for kind in "ao" for depth in _DEPTHS), *(f"{_RAW}{n}@" for n in range(len(_NUMBERS))),
)  # fmt: skip
_BYTES: Final = (
    b"\0", b"\r\n", b"\n", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b'"', b"\\", b"\\ud800", b"{",
    b"}", b"[", b"]", b",", b":", b".", b"..", b"=", b"==", b"=41", b"&", b"%", b"%00", b"%ff", b"*", b">", b" ", b"/",
    b"_", b"-", b"9" * 5000, b"\xd9\xa3", b"e999", b";", b"#", b"\x01", b"\xef\xbb\xbf",
)  # fmt: skip


def mutated(random: Random, seeds: Sequence[bytes], most_bytes: int = 64 * 1024) -> bytes:
    """Return a mutant of one of the seeds: of its JSON, of its bytes, or of both. Now and then a seed as it is."""
    data = random.choice(seeds)
    if random.random() < 0.7:
        data = mutated_json(random, data)
    if random.random() < 0.4:
        data = mutated_bytes(random, data, seeds)
    return data[:most_bytes]


def mutated_json(random: Random, data: bytes) -> bytes:
    """Return JSON with up to four of its values replaced, wrapped, removed or doubled; what is no JSON as it is."""
    try:
        value = json.loads(data)
    except ValueError:
        return data
    for _ in range(random.randint(1, 4)):
        value = _changed(random, value)
    return spell(value)


def spell(value: Any) -> bytes:
    """Spell a mutant as JSON, or nearly so."""
    text = json.dumps(value)
    for depth in _DEPTHS:
        text = text.replace(f'"{_DEEP}a{depth}@"', "[" * depth + "]" * depth)
        text = text.replace(f'"{_DEEP}o{depth}@"', '{"a":' * depth + "1" + "}" * depth)
    for number, raw in enumerate(_NUMBERS):
        text = text.replace(f'"{_RAW}{number}@"', raw)
    return text.encode()


def weird(random: Random) -> Any:
    """Return a value that was not expected; for `spell`."""
    return random.choice(_WEIRD)


def _changed(random: Random, value: Any) -> Any:
    """Change one place in a value, itself or one below it."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        name = random.choice(list(value))
        match random.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != name}
            case 1:
                return {**value, str(weird(random)): weird(random)}
            case 2:
                return {(str(weird(random)) if k == name else k): v for k, v in value.items()}
            case _:
                return {**value, name: _changed(random, value[name])}
    if isinstance(value, list) and value and random.random() < 0.8:
        at = random.randrange(len(value))
        match random.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value + value
            case _:
                return [*value[:at], _changed(random, value[at]), *value[at + 1 :]]
    match random.randrange(6):
        case 0:
            return [value]
        case 1:
            return {"a": value}
        case 2 if isinstance(value, str):
            return value + random.choice(TEXTS)
        case _:
            return weird(random)


def mutated_bytes(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Return bytes with up to four places changed, cut, doubled, or taken from another."""
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(data))
        to = min(len(data), at + random.randint(0, 12))
        match random.randrange(6):
            case 0:
                data = data[:at] + data[to:]
            case 1:
                data = data[:at] + random.choice(_BYTES) + data[at:]
            case 2:
                data = data[:at] + random.choice(_BYTES) + data[to:]
            case 3:
                data = data[:at] + data[at:to] * random.choice((2, 3, 500)) + data[to:]
            case 4 if others:
                other = random.choice(others)
                cut = random.randint(0, len(other))
                data = data[:at] + other[cut:]
            case _:
                data = data[:at] + random.randbytes(random.randint(1, 8)) + data[to:]
    return data
