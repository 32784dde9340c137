"""What the broker says of connections that end, where the deployment lets us hear it.

The advisories are the system account's; they reach ours where it exports `$SYS.ACCOUNT.*.DISCONNECT` to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

SUBJECT: Final = "$SYS.ACCOUNT.*.DISCONNECT"
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


def departed(payload: bytes) -> str | None:
    """Return the holder whose connection has ended, None for whoever is none or was sent away."""
    try:
        advisory = orjson.loads(payload)
        name, reason = advisory["client"]["name"], advisory.get("reason", "")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    holder = name.rpartition(" ")[2] if isinstance(name, str) else ""
    named = len(holder) == _HOLDER_LENGTH and holder.isascii() and holder.isalnum()
    return holder if named and isinstance(reason, str) and reason not in _ITS_OWN else None


def hearing(sink: Callable[[str], None]) -> Callable[[bytes, bytes, bytes, bytes], None]:
    """Return what takes the advisories and calls `sink` with each holder that has departed."""

    def arrived(_: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
        holder = departed(payload)
        if holder is not None:
            sink(holder)

    return arrived
