"""Keys as nats-server has them (nkeys): seeds that are kept, public keys that are shown, what they sign and seal."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import nkeys  # type: ignore[import-untyped]
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from nacl.signing import SigningKey, VerifyKey

from session_fabric.words.errors import InvalidRequest

Kind = Literal["account", "user", "curve"]
# github.com/nats-io/nkeys: the first letter of a public key; of a seed the second, behind an S.
_PREFIXES: Final[dict[Kind, int]] = {
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
    "curve": 23 << 3,
}
_SERVER: Final[int] = nkeys.PREFIX_BYTE_SERVER
_RAW: Final = 32
# github.com/nats-io/nkeys, xkeys.go: what is sealed begins with it.
_SEALED: Final = b"xkv1"
_NONCE: Final = 24


class Seed:
    """A private key. It is never shown: `text` is for writing it to a file."""

    def __init__(self, kind: Kind, raw: bytes) -> None:
        self.kind = kind
        self._raw = raw
        public = PrivateKey(raw).public_key if kind == "curve" else SigningKey(raw).verify_key
        self.public = _encode(bytes([_PREFIXES[kind]]), bytes(public))

    @classmethod
    def new(cls, kind: Kind) -> Seed:
        return cls(kind, os.urandom(_RAW))

    @classmethod
    def read(cls, text: str) -> Seed:
        """Raises `InvalidRequest`, which does not tell what was read."""
        data = _decode(text.strip(), 2 + _RAW)
        first = data[0] & 0xF8 if data else 0
        prefix = (data[0] & 7) << 5 | data[1] >> 3 if data else 0
        for kind, known in _PREFIXES.items():
            if first == nkeys.PREFIX_BYTE_SEED and prefix == known:
                return cls(kind, data[2:])
        raise InvalidRequest("This is no seed of an account (SA…), a user (SU…) or a curve key (SX…).")

    @property
    def text(self) -> str:
        prefix = _PREFIXES[self.kind]
        return _encode(bytes([nkeys.PREFIX_BYTE_SEED | prefix >> 5, (prefix & 31) << 3]), self._raw)

    def __repr__(self) -> str:
        return f"Seed({self.public})"

    def sign(self, data: bytes) -> bytes:
        return SigningKey(self._raw).sign(data).signature

    def seal(self, data: bytes, to: str) -> bytes:
        """Encrypt for whoever has the seed of a public curve key."""
        return _SEALED + bytes(Box(PrivateKey(self._raw), _curve(to)).encrypt(data))

    def open(self, data: bytes, by: str) -> bytes:
        """Decrypt what was sealed for us. Raises `InvalidRequest`."""
        try:
            if not data.startswith(_SEALED) or len(data) <= len(_SEALED) + _NONCE:
                raise CryptoError("not sealed")
            return Box(PrivateKey(self._raw), _curve(by)).decrypt(data[len(_SEALED) :])
        except CryptoError as error:
            raise InvalidRequest("This was not sealed for us by that key.") from error


def signed_by_server(public: str, data: bytes, signature: bytes) -> bool:
    """Say whether a server's key (N…) has signed something."""
    key = _decode(public, 1 + _RAW)
    if not key or key[0] != _SERVER:
        return False
    try:
        VerifyKey(key[1:]).verify(data, signature)
    except (CryptoError, ValueError):
        return False
    return True


def read_seeds(path: Path) -> dict[Kind, Seed]:
    """Read a file with a seed a line. Raises `InvalidRequest`."""
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidRequest(f"The seeds cannot be read from {path}: {what}.") from error
    return seeds_of(lines, str(path))


def seeds_of(texts: Sequence[str], where: str) -> dict[Kind, Seed]:
    """Read seeds, one of each kind at most. Raises `InvalidRequest`."""
    found: dict[Kind, Seed] = {}
    for text in texts:
        try:
            seed = Seed.read(text)
        except InvalidRequest as error:
            raise InvalidRequest(f"{where} has something else than seeds: {error.message}") from error
        if seed.kind in found:
            raise InvalidRequest(f"{where} has two seeds of one kind ({seed.kind}).")
        found[seed.kind] = seed
    return found


def _curve(public: str) -> PublicKey:
    key = _decode(public, 1 + _RAW)
    if not key or key[0] != _PREFIXES["curve"]:
        raise InvalidRequest(f"{public!r:.60} is no public curve key (X…).")
    return PublicKey(key[1:])


def _encode(head: bytes, raw: bytes) -> str:
    data = head + raw
    return base64.b32encode(data + nkeys.crc16_checksum(data)).decode().rstrip("=")


def _decode(text: str, length: int) -> bytes:
    """Return the bytes before the checksum; none where the text is no key of this length."""
    try:
        data = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        return b""
    good = len(data) == length + 2 and nkeys.crc16_checksum(data[:-2]) == data[-2:]
    return data[:-2] if good else b""
