"""Whether what a token has allowed still stands, for those who go on using it: its key, and what was revoked."""

from __future__ import annotations

from collections.abc import Callable

from session_fabric.revocations import Revocations

from session_fabric_gateway.auth import Grant
from session_fabric_gateway.tokens.claims import less_revoked
from session_fabric_gateway.tokens.shape import refused
from session_fabric_gateway.tokens.sources import KeyKeeper


class Standing:
    """What is left of grants, and when to look again."""

    def __init__(self, keys: KeyKeeper, revocations: Revocations) -> None:
        self._keys = keys
        self._revocations = revocations

    def left(self, grant: Grant) -> Grant:
        """Return what is left of a grant. Raises `Unauthenticated` where nothing is."""
        if grant.key is not None and grant.key not in self._keys.ring.marks:
            raise refused("key", "The key that has signed this token does not count any more.")
        return less_revoked(grant, self._revocations.revoked)

    def on_changed(self, sink: Callable[[str | None], None]) -> Callable[[], None]:
        """Call `sink` when less may be left of grants in a tenant, or (None) of any; the returned call ends it."""
        ends = [
            self._keys.on_changed(lambda: sink(None)),
            self._revocations.on_revoked(lambda revocation: sink(revocation.tenant)),
        ]

        def end() -> None:
            for each in ends:
                each()

        return end
