"""When a connection is pinged, and when it is closed. A rule: time comes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from session_fabric_gateway.codes import NO_HELLO, SILENT, SLOW_CONSUMER, TOKEN_EXPIRED, Close

HELLO_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take. `heartbeat_s`: silence after which a connection is dead; a ping goes out at half.

    `stalled_s`: how long one that is behind may give no sign of life at all, neither a word nor a byte taken.
    """

    heartbeat_s: float = 8.0
    stalled_s: float = 10.0
    hello_s: float = HELLO_WITHIN_S


Verdict = Literal["fine", "ping"] | Close


class Vitals:
    """The signs of life of one connection."""

    __slots__ = ("_heard", "_patience", "_pinged", "_since", "_stalled", "_taken", "_unread", "expires_ms", "greeted")

    def __init__(self, now: float, patience: Patience, *, greeted: bool = False) -> None:
        self._patience = patience
        self._since = self._heard = self._taken = now
        self._pinged: float | None = None
        self._unread = 0
        self._stalled = False
        self.greeted = greeted
        self.expires_ms: int | None = None

    def heard(self, now: float) -> None:
        """Anything at all came in."""
        self._heard = now
        self._pinged = None

    def check(self, now: float, now_ms: int, *, stalled: bool, unread: int) -> Verdict:
        """Say what is due. `stalled`: the transport takes no more for now, and `unread` bytes wait for the peer."""
        patience = self._patience
        if self._stalled and (not stalled or unread < self._unread):
            self._taken = now  # that the kernel takes bytes for it, before it stalls, proves nothing
        self._stalled, self._unread = stalled, unread
        if not self.greeted and now - self._since >= patience.hello_s:
            return NO_HELLO
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return TOKEN_EXPIRED
        if stalled:  # it cannot get a ping, and may not have got the one before
            return SLOW_CONSUMER if now - max(self._heard, self._taken) >= patience.stalled_s else "fine"
        half_s = patience.heartbeat_s / 2
        if self._pinged is not None:
            return SILENT if now - max(self._pinged, self._taken) >= half_s else "fine"
        if now - self._heard >= half_s:
            self._pinged = now
            return "ping"
        return "fine"
