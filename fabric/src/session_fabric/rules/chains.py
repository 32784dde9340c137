"""Files of lines in which nothing can be changed, left out, put in or swapped without its being seen. Pure.

A line is `{"n":<number>,"data":{…},"chain":"<hash>"}`: the hash is SHA-256 of the hash of the line before, a line feed
and the data as it stands there, so that the last hash speaks for all. The first line follows on `ORIGIN`, or on the
last hash of the file that it continues. The line before the last is the end (`{"type":"end",…}`) where the file is
signed, else the last one is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from session_fabric.words.errors import Corrupt
from session_fabric.words.parsing import read_json

FORMAT: Final = 1
# Which formats are read, by the kind of a file; of every other kind, the one that is written.
READ: Final[Mapping[str, tuple[int, ...]]] = {"audit": (1, 2)}
ORIGIN: Final = hashlib.sha256(b"session-fabric export 1").hexdigest()
MOST_LINE: Final = 64 * 1024 * 1024
_LINE: Final = re.compile(rb'\{"n":([0-9]{1,15}),"data":(\{.*\}),"chain":"([0-9a-f]{64})"\}')

Data = Mapping[str, Any]


def linked(before: str, data: bytes) -> str:
    """Return the hash of a line behind another."""
    return hashlib.sha256(before.encode() + b"\n" + data).hexdigest()


class Chain:
    """Spells lines one after another."""

    def __init__(self, before: str | None = None) -> None:
        self.lines = 0
        self.head = before or ORIGIN

    def line(self, data: object) -> bytes:
        """Return the next line, with its line feed; `data` may hold `orjson.Fragment`s without line feeds."""
        spelled = orjson.dumps(data)
        self.lines += 1
        self.head = linked(self.head, spelled)
        return b'{"n":%d,"data":%b,"chain":"%b"}\n' % (self.lines, spelled, self.head.encode())

    def signature(self, key: Ed25519PrivateKey) -> bytes:
        """Return the line that signs everything before it."""
        public, value = key.public_key().public_bytes_raw().hex(), key.sign(self.head.encode()).hex()
        return self.line({"type": "signature", "algorithm": "Ed25519", "key": public, "value": value})


class Checked:
    """Reads lines and checks each against the one before. `head` is the end's hash, `signed_by` a public key in hex."""

    def __init__(self) -> None:
        self.lines = 0
        self.head = ""
        self.manifest: Data = {}
        self.end: Data | None = None
        self.signed_by: str | None = None
        self._before = ORIGIN

    def read(self, lines: Iterable[bytes]) -> Iterator[Data]:
        """Yield each line's data. Raises `Corrupt`, which names the first line that is wrong."""
        for line in lines:
            self.lines += 1
            yield self._take(line)
        if self.end is None:
            raise self._wrong("the file ends before its end: something of it is missing", self.lines + 1)
        if self.manifest.get("signed") and self.signed_by is None:
            raise self._wrong("its signature is missing", self.lines + 1)

    def _take(self, line: bytes) -> Data:
        if self.signed_by is not None:
            raise self._wrong("something follows the signature")
        found = _LINE.fullmatch(line[:-1]) if line.endswith(b"\n") else None
        if found is None:
            raise self._wrong("it is not of the form of a line")
        number, spelled, chain = int(found[1]), found[2], found[3].decode()
        if number != self.lines or str(number).encode() != found[1]:
            raise self._wrong(f"it is numbered {number}")
        try:
            data = read_json(spelled)
        except ValueError as error:
            raise self._wrong("it is not JSON") from error
        if not isinstance(data, dict) or not isinstance(data.get("type"), str):
            raise self._wrong("it has no type")
        if self.lines == 1:
            self._begin(data)
        if linked(self._before, spelled) != chain:
            raise self._wrong("it is not what was written: its hash does not follow from the line before")
        if self.end is not None:
            self._signed(data)
        elif data["type"] == "end":
            self.end, self.head = data, chain
        self._before = chain
        return data

    def _begin(self, data: Data) -> None:
        previous = data.get("previous")
        read = READ.get(str(data.get("kind")), (FORMAT,))
        if data["type"] != "manifest" or data.get("format") not in read:
            known = " and ".join(map(str, read))
            raise self._wrong(f"no file of this form begins so; this version reads format {known}")
        if previous is not None and (not isinstance(previous, str) or not re.fullmatch("[0-9a-f]{64}", previous)):
            raise self._wrong("what it continues is no hash")
        self.manifest, self._before = data, previous or ORIGIN

    def _signed(self, data: Data) -> None:
        try:
            if data["type"] != "signature" or data["algorithm"] != "Ed25519":
                raise ValueError
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(data["key"]))
            key.verify(bytes.fromhex(data["value"]), self.head.encode())
        except (KeyError, TypeError, ValueError, InvalidSignature) as error:
            raise self._wrong("what follows the end is no signature of it") from error
        self.signed_by = data["key"]

    def _wrong(self, why: str, line: int | None = None) -> Corrupt:
        at = self.lines if line is None else line
        return Corrupt(f"Line {at} is wrong: {why}.", hint="Use another copy of the file, or export anew.", line=at)
