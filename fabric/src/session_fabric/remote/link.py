"""Asking the relay: one request, one answer, again while nobody is there to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from session_fabric.jetstream.api import Backoff
from session_fabric.jetstream.requests import Lost, Nobody, Requests
from session_fabric.jetstream.services import TOKEN
from session_fabric.words.errors import BrokerUnavailable, RateLimited
from session_fabric.words.names import new_id
from session_fabric.words.packing import MOST_BYTES, error_of, pack, unpack
from session_fabric.words.subjects import service_subject

TIMEOUT_S: Final = 10.0
# One try: a relay that has died with the request in hand costs this much.
_TRY_S: Final = 5.0
# What surrounds a body still fits.
PIECE: Final = MOST_BYTES - 16 * 1024


class Link:
    """Whoever asks, and with which token; `token` is called for each request, so that a new one counts at once."""

    def __init__(self, requests: Requests, tenant: str, participant: str, token: Callable[[], str]) -> None:
        self._requests = requests
        self.tenant = tenant
        self.participant = participant
        self._token = token

    async def ask(
        self,
        op: str,
        head: object,
        blobs: Sequence[bytes] = (),
        *,
        timeout_s: float = TIMEOUT_S,
        again: bool = True,
        at: str | None = None,
    ) -> tuple[Any, list[bytes]]:
        """Return what is answered, or raise it. `again`: an answer that was lost may be asked for anew.

        `at`: of this very process. Raises `BrokerUnavailable` when nobody has answered in time.
        """
        subject = service_subject(self.tenant, self.participant, op, at)
        data = pack(head, blobs)
        backoff = Backoff(timeout_s)
        while True:
            try:
                wait_s = min(_TRY_S, backoff.left_s) if again else backoff.left_s
                reply = await self._requests.one(
                    subject, data, headers={TOKEN: self._token()}, timeout_s=max(wait_s, 0.05)
                )
                told, found = unpack(reply.payload)
                error = error_of(told)
                if error is None:
                    return told, found
                # What the relay waited for in vain may be there by the next try; its own patience is ours.
                if isinstance(error, RateLimited) and await backoff.wait():
                    continue
                raise error
            except Lost as lost:
                if not again and not isinstance(lost, Nobody):
                    raise
                if at is not None or not await backoff.wait():
                    raise BrokerUnavailable(
                        f"The fabric did not answer within {timeout_s:g} s: {lost.message}",
                        hint="Is there a gateway that serves native agents at this broker?",
                    ) from lost

    async def upload(self, body: bytes, *, timeout_s: float = TIMEOUT_S) -> tuple[str, str]:
        """Bring a body in pieces to one process of the relay; return its name there, and the process's."""
        name, at = new_id(), None
        for begin in range(0, max(len(body), 1), PIECE):
            piece = {"upload": name, "at": begin, "size": len(body)}
            at, _ = await self.ask("upload", piece, [body[begin : begin + PIECE]], timeout_s=timeout_s, at=at)
        return name, str(at)
