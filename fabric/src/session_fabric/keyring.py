"""Where tenants' keys come from. The broker has none: it keeps each session's key wrapped under its tenant's."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from session_fabric.rules import seals
from session_fabric.rules.seals import KEY_BYTES, Cipher
from session_fabric.words.errors import InvalidRequest, KeyMissing

# The keys of tenants that have none of their own.
OTHERS: Final = "*"
# In the place of a tenant's keys: what it makes is not sealed, though older sessions of its may be.
OPEN: Final = "open"
_HINT: Final = 'Its form is {"acme":[{"id":"k1","key":"<32 bytes as base64>"}]}; `openssl rand -base64 32` makes one.'


class Sealed(BaseModel):
    """A session's key as its record keeps it: `wrapped` (base64) under the tenant's key `key`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    wrapped: str


class TenantKey(NamedTuple):
    id: str
    secret: bytes


def new_sealed(under: TenantKey) -> Sealed:
    """Make a key for a session, wrapped."""
    return Sealed(key=under.id, wrapped=base64.b64encode(seals.wrap(seals.new_key(), under.secret)).decode())


def wrapped_anew(sealed: Sealed, under: TenantKey, new: TenantKey) -> Sealed:
    """Wrap a session's key under another of its tenant's. Raises `KeyMissing` where it was not under that one."""
    key = seals.unwrap(base64.b64decode(sealed.wrapped), under.secret)
    if key is None:
        raise key_missing("its tenant", sealed.key)
    return Sealed(key=new.id, wrapped=base64.b64encode(seals.wrap(key, new.secret)).decode())


def cipher_of(sealed: Sealed, under: TenantKey) -> Cipher | None:
    """Return a session's cipher; None where its key was wrapped under another."""
    key = seals.unwrap(base64.b64decode(sealed.wrapped), under.secret)
    return None if key is None else Cipher(key)


def key_missing(tenant: str, id: str) -> KeyMissing:
    return KeyMissing(
        f"What is said here is sealed under key {id!r} of tenant {tenant!r}, which this process has not got.",
        hint="Give the file of keys that has it: SESSION_FABRIC_ENCRYPTION_KEYS, or what a program connects with as "
        "`keys`.",
        tenant=tenant,
        key=id,
    )


class Keyring(Protocol):
    """Tenants' keys, from a file or from wherever a deployment keeps them."""

    def current(self, tenant: str) -> TenantKey | None:
        """Return the key under which new sessions' keys are wrapped; None: this tenant's bodies are not sealed."""

    def named(self, tenant: str, id: str) -> TenantKey:
        """Return a key of the tenant's by its id, older ones too. Raises `KeyMissing`."""

    def leaves_open(self, tenant: str) -> bool:
        """Say whether it is wished that what this tenant makes is not sealed, also beside sessions that are."""


class Keys:
    """Keys by tenant, the current one first, none: left open; `"*"` has those of all other tenants."""

    def __init__(self, keys: Mapping[str, Sequence[TenantKey]]) -> None:
        self._keys = {tenant: tuple(of) for tenant, of in keys.items()}

    @classmethod
    def read(cls, path: Path | str) -> Keys:
        """Read a file of keys. Raises `InvalidRequest` that names what is wrong, and never a key."""
        try:
            given = json.loads(Path(path).read_text())
        except OSError as error:
            raise InvalidRequest(f"The keys cannot be read: {error.strerror}: {path}.", hint=_HINT) from error
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{path} is not JSON.", hint=_HINT) from error
        if not isinstance(given, dict) or not given:
            raise InvalidRequest(f"{path} names no tenants.", hint=_HINT)
        return cls({tenant: _keys_of(path, tenant, of) for tenant, of in given.items()})

    def current(self, tenant: str) -> TenantKey | None:
        keys = self._of(tenant)
        return keys[0] if keys else None

    def named(self, tenant: str, id: str) -> TenantKey:
        for key in self._of(tenant):
            if key.id == id:
                return key
        raise key_missing(tenant, id)

    def leaves_open(self, tenant: str) -> bool:
        return self._keys.get(tenant, self._keys.get(OTHERS)) == ()

    def _of(self, tenant: str) -> tuple[TenantKey, ...]:
        return self._keys.get(tenant, self._keys.get(OTHERS, ()))


def _keys_of(path: Path | str, tenant: str, given: object) -> list[TenantKey]:
    if given == OPEN:
        return []
    if not isinstance(given, list) or not given:
        raise InvalidRequest(f"{path} has no list of keys for tenant {tenant!r:.80}.", hint=_HINT)
    keys = [_key(path, tenant, one) for one in given]
    if len({key.id for key in keys}) < len(keys):
        raise InvalidRequest(f"{path} has two keys of one id for tenant {tenant!r:.80}.", hint="Give each its own.")
    return keys


def _key(path: Path | str, tenant: str, given: object) -> TenantKey:
    id, text = (given.get("id"), given.get("key")) if isinstance(given, dict) else (None, None)
    if not isinstance(id, str) or not id or not isinstance(text, str):
        raise InvalidRequest(f"{path} has a key without `id` or `key` for tenant {tenant!r:.80}.", hint=_HINT)
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise InvalidRequest(f"Key {id!r:.80} of tenant {tenant!r:.80} in {path} is not {KEY_BYTES} bytes.", hint=_HINT)
    return TenantKey(id, secret)
