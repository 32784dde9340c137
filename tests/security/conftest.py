"""A gateway that takes signed tokens, and two tenants behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from session_fabric import Fabric

from tests.gateway.conftest import Running, running
from tests.security.scene import SETTINGS, Scene, staged


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
