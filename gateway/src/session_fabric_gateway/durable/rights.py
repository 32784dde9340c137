"""What a token grants of durable streams: by path, with a slash before it so that no session has the same name."""

from __future__ import annotations

from session_fabric.streams.records import path_of
from session_fabric.words.errors import Forbidden
from session_fabric.words.subjects import Place

from session_fabric_gateway.auth import Grant


def may(grant: Grant, place: Place, operation: str) -> None:
    """Return if an operation is granted on a stream. Raises `Forbidden`."""
    # Who is granted the sessions that he takes part in is granted no streams: nobody takes part in one.
    if not grant.grants.mine_only and grant.grants.allows(place.session, operation):
        return
    raise Forbidden(
        f"The token of {grant.participant} does not grant {operation} on stream {path_of(place)!r:.200}.",
        hint=f'Get a token that does: "sessions": {{"/{path_of(place):.80}": ["{operation}"]}}.',
        operation=operation,
    )
