"""A gateway that takes signed tokens and two tenants behind it; and a broker that asks one who may come in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from session_fabric import Fabric

from tests.gateway.conftest import Running, running
from tests.security import relay_world
from tests.security.native_world import World, serving
from tests.security.scene import SETTINGS, Scene, staged
from tests.support.natives import guarded_server
from tests.support.servers import NatsNode


@pytest.fixture
async def guarded(broker_url: str | None, tenant: str) -> AsyncIterator[Running]:
    """A gateway with keys: users without named sessions have those that they take part in."""
    async with running(broker_url, tenant, **SETTINGS) as house:
        yield house


@pytest.fixture
async def scene(guarded: Running, broker_url: str | None) -> AsyncIterator[Scene]:
    """Victims in both tenants; afterwards they have lost nothing."""
    async with (
        Fabric.connect(broker_url, tenant=guarded.tenant, participant="service:stage") as fabric,
        staged(guarded, fabric) as one,
    ):
        yield one


@pytest.fixture
async def world(tmp_path: Path, tenant: str) -> AsyncIterator[World]:
    """A broker with a door, and a gateway that opens it."""
    async with guarded_server(tmp_path) as guarded, serving(guarded, tenant) as one:
        yield one


@pytest.fixture
async def relayed_world(shared_server: NatsNode, tenant: str) -> AsyncIterator[relay_world.World]:
    """A relay, which is asked by hand."""
    async with relay_world.relayed(shared_server, tenant) as one:
        yield one
