"""A guarded broker, a gateway that says who may come in there, and visitors who connect by hand."""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from nats.aio.client import Client
from session_fabric import Credentials, Fabric
from session_fabric.jetstream.receive import Connection
from session_fabric.remote.broker import RemoteBroker
from session_fabric.revocations import revoke
from session_fabric.rules.permissions import permissions
from session_fabric.rules.revocations import Of, Revocation

from tests.gateway.conftest import Running, running
from tests.support.natives import Guarded, refused

HELPER = "agent:helper"


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@dataclass
class World:
    """A guarded broker, a gateway that says who may come in, and the fabric's own connection."""

    guarded: Guarded
    house: Running
    fabric: Fabric
    tenant: str

    def token(self, participant: str = HELPER, **claims: Any) -> str:
        claims.setdefault("iat", int(time.time()))
        return self.house.token(participant, **claims)

    @asynccontextmanager
    async def inside(self, token: str, participant: str = HELPER) -> AsyncIterator[Visitor]:
        """Connect by hand, as no SDK would; what the broker refuses is kept."""
        visitor = Visitor([], asyncio.Event())

        async def failed(error: Exception) -> None:
            visitor.errors.append(str(error).lower())

        async def closed() -> None:
            visitor.closed.set()

        inbox = permissions(self.tenant, participant).inbox
        visitor.client = client = Connection()
        await client.connect(
            self.guarded.server.url,
            token=token,
            error_cb=failed,
            closed_cb=closed,
            allow_reconnect=False,
            inbox_prefix=inbox,
        )
        try:
            yield visitor
        finally:
            await client.close()

    @asynccontextmanager
    async def native(self, *, by_name: tuple[str, ...] | None = None, **claims: Any) -> AsyncIterator[Fabric]:
        """Connect as `HELPER` with a token of these claims; `by_name`: whose news the broker itself tells it (None: of
        all)."""
        broker = await RemoteBroker.connect(
            self.guarded.server.url,
            tenant=self.tenant,
            participant=HELPER,
            sessions=by_name,
            credentials=Credentials(token=self.token(**claims)),
        )
        async with await Fabric.over(broker, tenant=self.tenant, participant=HELPER) as fabric:
            yield fabric

    async def refused(self, **options: Any) -> bool:
        return await refused(self.guarded.server.url, **options)

    async def revoke(self, of: Of, name: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        await revoke(
            self.fabric.broker,
            Revocation(self.tenant, of, name, now_ms + 1000, now_ms + 600_000),
            by="operator:ann",
            now_ms=now_ms,
        )


@dataclass
class Visitor:
    errors: list[str]
    closed: asyncio.Event
    client: Client = None  # type: ignore[assignment]  # set when it is connected


@asynccontextmanager
async def serving(
    guarded: Guarded, tenant: str, tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[World]:
    own = replace(guarded.own, tls=tls)
    async with (
        Fabric.connect(guarded.server.url, tenant=tenant, credentials=own, streams=1) as fabric,
        running(
            guarded.server.url,
            tenant,
            nats_credentials=guarded.nkey,
            native_agents=str(guarded.seeds),
            **settings,
        ) as house,
    ):
        yield World(guarded, house, fabric, tenant)
