"""Passing on what is told live, byte for byte, to the inbox of who cannot be let hear it at the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from session_fabric.jetstream.live import Tapped, hear
from session_fabric.jetstream.receive import Connection

# Of a subject (as bytes): whether it may be passed on.
Sees = Callable[[bytes], bool]


class Passing:
    """What comes at some subjects goes to `to`, with its own subject behind that, in the order in which it comes.

    `whole`: False when something could not be passed on, since our connection was full or was lost.
    """

    def __init__(self, connection: Connection, to: str, sees: Sees | None) -> None:
        self._connection = connection
        self._to = f"{to}.".encode()
        self._sees = sees
        self._tapped: Tapped | None = None
        self.whole = True

    async def open(self, subjects: Sequence[str]) -> None:
        """Begin; returns when the broker has taken all of it. Raises `BrokerUnavailable`, nothing left behind."""
        self._tapped = await hear(self._connection, subjects, self._arrived)

    async def close(self) -> None:
        if self._tapped is not None:
            await self._tapped.close()

    def _arrived(self, subject: bytes, _: bytes, head: bytes, payload: bytes) -> None:
        if self._sees is not None and not self._sees(subject):
            return
        if self.whole:  # behind a gap nothing is worth anything: whoever hears it looks anew
            self.whole = self._connection.pass_on(self._to + subject, head, payload)
