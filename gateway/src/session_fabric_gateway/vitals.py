"""When a connection is pinged, and when it is closed. A rule: time comes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from session_fabric_gateway.codes import NO_HELLO, SILENT, SLOW_CONSUMER, TOKEN_EXPIRED, Close

HELLO_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what may take. `heartbeat_s`: silence after which a connection is dead; a ping goes out at half."""

    heartbeat_s: float = 15.0
    stalled_s: float = 10.0
    hello_s: float = HELLO_WITHIN_S


Verdict = Literal["fine", "ping"] | Close


class Vitals:
    """The signs of life of one connection."""

    __slots__ = ("_buffered", "_heard", "_patience", "_pinged", "_read", "_since", "expires_ms", "greeted")

    def __init__(self, now: float, patience: Patience, *, greeted: bool = False) -> None:
        self._patience = patience
        self._since = self._heard = self._read = now
        self._pinged = False
        self._buffered = 0
        self.greeted = greeted
        self.expires_ms: int | None = None

    def heard(self, now: float) -> None:
        """Anything at all came in."""
        self._heard = now
        self._pinged = False

    def check(self, now: float, now_ms: int, *, stalled: bool, buffered: int) -> Verdict:
        """Say what is due. `stalled`: the transport takes no more for now, `buffered` bytes wait in it."""
        patience = self._patience
        if not stalled or buffered < self._buffered:
            self._read = now
        self._buffered = buffered if stalled else 0
        if not self.greeted and now - self._since >= patience.hello_s:
            return NO_HELLO
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return TOKEN_EXPIRED
        if now - self._read >= patience.stalled_s:
            return SLOW_CONSUMER
        silence = now - self._heard
        # A peer that is stalled cannot get a ping: it has its own time.
        if silence >= patience.heartbeat_s and not stalled:
            return SILENT
        if silence >= patience.heartbeat_s / 2 and not self._pinged and not stalled:
            self._pinged = True
            return "ping"
        return "fine"
