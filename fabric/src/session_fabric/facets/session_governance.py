"""What accounts for a session: how long it is kept, what holds it, what is removed of it and what is handed over."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_fabric import exporting, keeping, lifecycle
from session_fabric.erasure import Erasure
from session_fabric.exporting import Previous
from session_fabric.keeping import Kept
from session_fabric.parts import Parts
from session_fabric.redacting import finding, redaction
from session_fabric.redacting.finding import Redactable
from session_fabric.redacting.proof import Redaction
from session_fabric.rules.holds import Hold, Holds
from session_fabric.words.positions import Offset


class SessionGovernance:
    """A facet of `Session`."""

    _parts: Parts

    async def delete(self, reason: str = "") -> Erasure:
        """Remove the session with all that it holds; followers end with `SessionGone`. Return what there was, and what
        there is now: nothing, or what could not be removed (`remains`).

        While a fork needs its past, the past stays, readable through the fork alone. `reason` is for the audit. Raises
        `SessionHeld` while a legal hold stands, `SessionNotFound`, `SessionGone`, `BrokerUnavailable` (delete again).
        """
        return await lifecycle.delete(self._parts, reason)

    def export(
        self, *, previous: Previous | None = None, cursors: bool = False, key: Ed25519PrivateKey | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the session as lines: its events as they are stored, its documents, with `cursors` its read markers.

        Each line's hash follows from the one before: `verify` finds out what was changed. `previous`: the end of an
        earlier export, to go on from. `key` signs the last hash. Raises `Forbidden` (users), `OffsetGone` (retention
        removed what was to be read: begin anew), `SessionNotFound`, `KeyMissing`.
        """
        return exporting.export(self._parts, previous=previous, cursors=cursors, key=key)

    async def redact(self, message: str | None = None, *, event: Offset | str | None = None, reason: str) -> Redaction:
        """Remove what a message says, or one other event (its offset or id), for good; the session goes on.

        `message.redacted` (`event.redacted`) says who did it, when and why; then every event of the message goes, its
        tool calls and their results, what was asked of participants for them, and its large bodies; it is left as a
        message of the same role without content, here and in forks. Again it finishes what was cut off. Raises
        `MessageNotFound`, `EventNotFound`, `InvalidRequest` (it is of a fork's source; others rely on that event),
        `MessageOpen` while the run that writes or answers it is under way, `SessionHeld`, `Forbidden` (users),
        `SessionNotFound`.
        """
        return await redaction.redact(self._parts, message, event, reason)

    async def redactable(self, message: str | None = None, *, event: Offset | str | None = None) -> Redactable:
        """Return what `redact` would remove; nothing is changed. Raises as that does, but for what is open or held."""
        return await finding.look(self._parts, message, event)

    async def retention(self) -> Kept:
        """Return how long what is in the session is kept, and the legal holds on it. Raises `SessionNotFound`."""
        return await keeping.of_session(self._parts)

    async def set_retention(self, /, **changes: Any) -> Kept:
        """Change how long what is in this session is kept; what is not said here is as the tenant's says.

        `max_age_s`: events older than this are removed; `max_events`, `max_bytes`: the newest that are kept;
        `max_idle_s`: the session is deleted when nothing was stored for so long; `closed_s`: so long after it was
        closed. Each a number, None for no limit, or "inherit". Raises `InvalidRequest`, `Forbidden` (users),
        `SessionNotFound`.
        """
        return await keeping.set_of_session(self._parts, changes)

    async def hold(self, reason: str, name: str = "hold") -> Hold:
        """Have nothing of the session removed, by anybody, until `release` of the same name; holds add up.

        Raises `InvalidRequest`, `Forbidden` (users), `SessionNotFound`, `LimitExceeded` (more than 50).
        """
        return await keeping.hold_session(self._parts, reason, name)

    async def release(self, name: str = "hold") -> Holds:
        """End a hold; return those that still stand. Raises `HoldNotFound`."""
        return await keeping.release_session(self._parts, name)
