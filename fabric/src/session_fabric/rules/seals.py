"""How bodies are sealed: AES-256-GCM under a key of the session's own. Pure, but for the random nonce."""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

KEY_BYTES: Final = 32
# NIST SP 800-38D 8.2: 96 random bits a message, for at most 2^32 messages under one key: a session's.
_NONCE_BYTES: Final = 12
# What a body has more when it is sealed: the nonce and the tag.
SEAL_BYTES: Final = _NONCE_BYTES + 16
# What a sealed value of a bucket begins with; JSON never does.
_MARK: Final = b"\x01"


class Cipher:
    """Seals and opens under one key. `bound` is what a sealed body belongs to: it opens nowhere else."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes | None:
        """Return what was sealed; None where it is not of this key, of another place, or was changed."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            return None

    def seal_value(self, plain: bytes, bound: bytes) -> bytes:
        """Seal a bucket's value, which has no header to say that it is."""
        return _MARK + self.seal(plain, bound)

    def open_value(self, value: bytes, bound: bytes) -> bytes | None:
        """Open a bucket's value; one that was never sealed is returned as it is."""
        return self.open(value[1:], bound) if value.startswith(_MARK) else value


def bound_of(tenant: str, session: str, kind: str, name: str, type: str) -> bytes:
    """Return what an event's body is bound to: its place in the log, and its type."""
    return "\0".join((tenant, session, kind, name, type)).encode()


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def wrap(key: bytes, under: bytes) -> bytes:
    """Wrap a session's key under a tenant's (RFC 3394)."""
    return aes_key_wrap(under, key)


def unwrap(wrapped: bytes, under: bytes) -> bytes | None:
    """Return a session's key; None where it was wrapped under another's."""
    try:
        return aes_key_unwrap(under, wrapped)
    except (InvalidUnwrap, ValueError):
        return None
