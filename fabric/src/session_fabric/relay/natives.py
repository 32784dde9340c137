"""Answering native participants: whoever the broker says is asking, with the grants of the token it brings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.records import Directory
from session_fabric.relay.own import Own
from session_fabric.relay.relay import Relay
from session_fabric.rules.grants import Grants
from session_fabric.rules.permissions import check_native

# tenant, participant, token
GrantsOf = Callable[[str, str, str], Awaitable[Grants]]


class Natives:
    """One process's answers; `async with` it for as long as it answers."""

    def __init__(self, broker: JetStreamBroker, directory: Directory, grants_of: GrantsOf) -> None:
        self._directory = directory
        self._grants_of = grants_of
        self._relay = Relay(broker, broker.passing)
        self._services = broker.answering(self._answer)

    async def __aenter__(self) -> Self:
        await self._services.open(self._relay.instance)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._services.close()
        await self._relay.close()

    async def _answer(self, tenant: str, participant: str, token: str, op: str, data: bytes) -> bytes:
        check_native(participant)
        grants = await self._grants_of(tenant, participant, token)
        return await self._relay.answer(Own(tenant, participant, grants, self._directory), op, data)
