"""Fixtures for agents of frameworks: a real nats-server, and a tenant of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from session_fabric import Fabric, Session

from tests.support.servers import NatsNode


@pytest.fixture
async def fabric(shared_server: NatsNode, tenant: str) -> AsyncIterator[Fabric]:
    """A connection in the name of `agent:writer`."""
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="agent:writer", streams=1) as fabric:
        yield fabric


@pytest.fixture
def ada(fabric: Fabric) -> Session:
    """The session `chat`, as a user has it."""
    return fabric.view(participant="user:ada").session("chat")
