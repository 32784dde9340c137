"""Who gets in at the broker by a token, who does not, and what the broker then refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from session_fabric import Credentials, Fabric
from session_fabric.remote.broker import RemoteBroker
from session_fabric.revocations import revoke
from session_fabric.rules.permissions import permissions
from session_fabric.rules.revocations import Of, Revocation

from tests.gateway.conftest import Running, running
from tests.support.natives import Guarded, guarded_server, refused

HELPER = "agent:helper"


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
        visitor.client = await nats.connect(
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
            await visitor.client.close()

    async def refused(self, **options: Any) -> bool:
        return await refused(self.guarded.server.url, **options)

    async def revoke(self, of: Of, name: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        await revoke(
            self.fabric.broker, Revocation(self.tenant, of, name, now_ms + 1000, now_ms + 600_000), now_ms=now_ms
        )


@dataclass
class Visitor:
    errors: list[str]
    closed: asyncio.Event
    client: Client = None  # type: ignore[assignment]  # set when it is connected


@pytest.fixture
async def world(tmp_path: Path, tenant: str) -> AsyncIterator[World]:
    async with guarded_server(tmp_path) as guarded, serving(guarded, tenant) as one:
        yield one


@asynccontextmanager
async def serving(guarded: Guarded, tenant: str, **settings: Any) -> AsyncIterator[World]:
    async with (
        Fabric.connect(guarded.server.url, tenant=tenant, credentials=guarded.own, streams=1) as fabric,
        running(
            guarded.server.url,
            tenant,
            nats_credentials=guarded.nkey,
            native_agents=str(guarded.seeds),
            **settings,
        ) as house,
    ):
        yield World(guarded, house, fabric, tenant)


async def test_an_agent_with_a_token_comes_in_and_answers(world: World) -> None:
    broker = await RemoteBroker.connect(
        world.guarded.server.url,
        tenant=world.tenant,
        participant=HELPER,
        credentials=Credentials(token=world.token()),
    )
    async with await Fabric.over(broker, tenant=world.tenant, participant=HELPER) as fabric:
        async with fabric.session("chat-1").run() as run:
            await run.text("Hello")
        assert [m.content for m in (await world.fabric.session("chat-1").messages()).messages] == ["Hello"]
