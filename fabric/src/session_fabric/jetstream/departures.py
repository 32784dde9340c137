"""What the broker says of connections that end, where the deployment lets us hear it.

The advisories are the system account's; they reach ours where it exports `$SYS.ACCOUNT.*.DISCONNECT` to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from session_fabric.ports import Departure

SUBJECT: Final = "$SYS.ACCOUNT.*.DISCONNECT"
# The other side let go: it has ended, or is about to come back. Any other reason is the server's, for a connection that
# it had not heard from, or could not write to: whose it was may have had another one for long.
_CLOSED: Final = frozenset({"Client Closed", "Read Error"})
# What the server itself has ended (server/client.go, ClosedState): its clients go elsewhere and are not gone.
_ITS_OWN: Final = frozenset(
    {
        *("Server Shutdown", "Lame Duck Mode", "Duplicate Route", "Kicked", "Credentials Revoked"),
        "Authentication Expired",  # whoever has another token is back at once
    }
)
_HOLDER_LENGTH: Final = 20


def name_of(name: str, holder: str) -> str:
    """Return the name under which a connection introduces itself, so that its end can be told."""
    return f"{name} {holder}"


def departed(payload: bytes) -> Departure | None:
    """Return whose connection has ended, None for whoever is no holder or was sent away."""
    try:
        advisory = orjson.loads(payload)
        name, reason = advisory["client"]["name"], advisory.get("reason", "")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    holder = name.rpartition(" ")[2] if isinstance(name, str) else ""
    named = len(holder) == _HOLDER_LENGTH and holder.isascii() and holder.isalnum()
    if not named or not isinstance(reason, str) or reason in _ITS_OWN:
        return None
    return Departure(holder, reason in _CLOSED)


def hearing(sink: Callable[[Departure], None]) -> Callable[[bytes, bytes, bytes, bytes], None]:
    """Return what takes the advisories and calls `sink` with each holder's that has ended."""

    def arrived(_: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        departure = departed(payload)
        if departure is not None:
            sink(departure)

    return arrived
