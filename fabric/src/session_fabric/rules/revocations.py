"""Which tokens count no more, although they have not expired. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from session_fabric.words.errors import InvalidName, InvalidRequest
from session_fabric.words.names import check_participant, check_session, check_tenant, escape, unescape

# A token is valid for this long at the most, so that a revocation need not stand for longer.
LONGEST_S: Final = 30 * 24 * 3600

_LONGEST_ID: Final = 255

Of = Literal["token", "participant", "session"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """One token by its id, or all that were issued before a moment: a participant's, or of a tenant for a session.

    Times are milliseconds since 1970. At `until_ms` the last token that it is about has expired.
    """

    tenant: str
    of: Of
    name: str
    before_ms: int
    until_ms: int

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return f"{escape(self.tenant)}.{self.of}.{escape(self.name)}"

    def spell(self) -> bytes:
        return _Stored(before_ms=self.before_ms, until_ms=self.until_ms).model_dump_json().encode()

    def with_older(self, older: Revocation | None) -> Revocation:
        """Return what stands when both have been said."""
        if older is None:
            return self
        return Revocation(
            self.tenant,
            self.of,
            self.name,
            max(self.before_ms, older.before_ms),
            max(self.until_ms, older.until_ms),
        )


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    before_ms: int
    until_ms: int


def check_token_id(name: object) -> str:
    """Return a token's id (`jti`), or raise `InvalidName`: other issuers make them, so that they may be any text."""
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_ID or not name.isprintable():
        raise InvalidName(
            f"{name!r:.80} is not a token's id.", hint=f"It is 1-{_LONGEST_ID} characters that can be seen."
        )
    return name


def revocation(tenant: str, of: Of, name: str, *, now_ms: int, before_ms: int | None = None, for_s: int) -> Revocation:
    """Return a checked one. `before_ms` None: whatever was issued until now. Raises `InvalidInput`."""
    check_tenant(tenant)
    if of == "token":
        check_token_id(name)
    elif of == "participant":
        check_participant(name)
    else:
        check_session(name)
    if not 1 <= for_s <= LONGEST_S:
        raise InvalidRequest(
            f"A revocation cannot stand for {for_s} s.",
            hint=f"Use 1 to {LONGEST_S} s: until the last token that it is about has expired.",
        )
    before_ms = now_ms if before_ms is None else before_ms
    if not 0 <= before_ms <= now_ms:
        raise InvalidRequest("A revocation is of tokens that were issued before a moment of the past.")
    return Revocation(tenant, of, name, before_ms, now_ms + for_s * 1000)


def parse_revocation(key: str, value: bytes) -> Revocation | None:
    """Read one as it is stored; None for what is none."""
    parts = key.split(".")
    try:
        stored = _Stored.model_validate_json(value)
    except ValidationError:
        return None
    if len(parts) != 3 or parts[1] not in ("token", "participant", "session"):
        return None
    of: Of = "token" if parts[1] == "token" else "participant" if parts[1] == "participant" else "session"
    return Revocation(unescape(parts[0]), of, unescape(parts[2]), stored.before_ms, stored.until_ms)


class Revoked:
    """All revocations that stand, by what they are about. Asked for each use of a token."""

    def __init__(self) -> None:
        # Rises with each change.
        self.version = 0
        self._known: dict[str, Revocation] = {}
        self._named: dict[tuple[str, Of, str], Revocation] = {}
        self._sessions: dict[str, dict[str, int]] = {}

    def put(self, revocation: Revocation) -> bool:
        """Let one stand; say whether it is new."""
        if self._known.get(revocation.key) == revocation:
            return False
        self.version += 1
        self._known[revocation.key] = revocation
        if revocation.of == "session":
            self._sessions.setdefault(revocation.tenant, {})[revocation.name] = revocation.before_ms
        else:
            self._named[revocation.tenant, revocation.of, revocation.name] = revocation
        return True

    def drop(self, key: str) -> None:
        """Forget one: what it was about has expired, or it was taken back."""
        gone = self._known.pop(key, None)
        if gone is None:
            return
        self.version += 1
        if gone.of != "session":
            del self._named[gone.tenant, gone.of, gone.name]
            return
        of_tenant = self._sessions[gone.tenant]
        del of_tenant[gone.name]
        if not of_tenant:
            del self._sessions[gone.tenant]

    def keys(self) -> frozenset[str]:
        return frozenset(self._known)

    def covers(self, tenant: str, participant: str, token_id: str | None, issued_ms: int) -> Of | None:
        """Say by what a token is revoked as a whole, None where it is not. One that says not when: `issued_ms` 0."""
        if token_id is not None and (tenant, "token", token_id) in self._named:
            return "token"
        found = self._named.get((tenant, "participant", participant))
        return "participant" if found is not None and issued_ms < found.before_ms else None

    def sessions(self, tenant: str, issued_ms: int) -> frozenset[str]:
        """Return the sessions for which tokens of a tenant that were issued then do not count."""
        of_tenant = self._sessions.get(tenant)
        if not of_tenant:
            return frozenset()
        return frozenset(name for name, before_ms in of_tenant.items() if issued_ms < before_ms)
