"""Answering native participants: whoever the broker says is asking, with the grants of the token it brings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Final, Protocol, Self

from session_fabric.history import Read
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.records import Directory
from session_fabric.relay.own import Own
from session_fabric.relay.relay import Relay
from session_fabric.relay.rights import Rights
from session_fabric.rules.grants import Grants
from session_fabric.rules.permissions import check_native
from session_fabric.words.logs import log

_AGAIN_S: Final = 0.5
# tenant, participant, token
GrantsOf = Callable[[str, str, str], Awaitable[Grants]]
_READING: Final = frozenset({"read", "read_back", "piece"})


class Charges(Protocol):
    """Counts what natives do."""

    def asked(self, tenant: str, participant: str, size: int) -> None:
        """Count a request of so many bytes. Raises `RateLimited` where it is one too many."""

    def reads(self, tenant: str, participant: str) -> None:
        """Raises `RateLimited` as long as more was read from logs than may be."""

    def read(self, tenant: str, participant: str, read: Read) -> None:
        """Count what was read."""


class Natives:
    """One process's answers; `async with` it for as long as it answers."""

    def __init__(
        self, broker: JetStreamBroker, directory: Directory, grants_of: GrantsOf, charges: Charges | None = None
    ) -> None:
        self._directory = directory
        self._grants_of = grants_of
        self._charges = charges
        self._relay = Relay(broker, broker.passing, self._on_read)
        self._services = broker.answering(self._answer)
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def look_again(self) -> None:
        """Say that tokens may count less than they did: what is passed on ends now where it is not granted any more."""
        self._changed.set()

    async def __aenter__(self) -> Self:
        await self._services.open(self._relay.instance)
        self._looking = asyncio.create_task(self._look(), name="what is passed on")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._looking is not None
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)
        await self._services.close()
        await self._relay.close()

    async def _answer(self, tenant: str, participant: str, token: str, op: str, data: bytes) -> bytes:
        check_native(participant)
        look = partial(self._grants_of, tenant, participant, token)
        rights = Own(tenant, participant, await look(), self._directory, look)
        if self._charges is not None:
            self._charges.asked(tenant, participant, len(data))
            if op in _READING:
                self._charges.reads(tenant, participant)
        return await self._relay.answer(rights, op, data)

    def _on_read(self, rights: Rights, read: Read) -> None:
        if self._charges is not None:
            self._charges.read(rights.tenant, rights.participant, read)

    async def _look(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._relay.look_again()
            except Exception:
                # Whatever it is, tokens go on to be revoked: nobody who is out goes on to hear because of it.
                log.exception("passing_on_not_looked_at")
                await asyncio.sleep(_AGAIN_S)
                self._changed.set()
