"""A gateway in the test's own loop, on the run's nats-server; and tokens for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import pytest
from session_fabric import Fabric
from session_fabric.tracing import PASSED_ON, Traces
from session_fabric_gateway.app import bind, serving, url_of
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.settings import Settings

SECRET = "a secret of thirty-two bytes or more, for tests alone"


@dataclass
class Running:
    """A gateway that serves, and who may come in."""

    gateway: Gateway
    url: str
    tenant: str

    def token(
        self, participant: str = "user:ada", *, tenant: str | None = None, expires_in_s: float = 600, **claims: Any
    ) -> str:
        claims |= {"sub": participant, "tenant": tenant or self.tenant, "exp": int(time.time() + expires_in_s)}
        return jwt.encode(claims, SECRET, algorithm="HS256")


Start = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def running(
    broker_url: str | None, tenant: str, traces: Traces = PASSED_ON, **settings: Any
) -> AsyncIterator[Running]:
    assert broker_url is not None, "a gateway needs a nats-server"
    values = {"nats": broker_url, "dev_secret": SECRET, "port": 0, "drain_s": 0.0, "stop_s": 2.0} | settings
    chosen = Settings.model_validate(values)
    with bind(chosen.host, 0) as sock:
        async with serving(chosen, sock, traces=traces) as gateway:
            yield Running(gateway, url_of(sock, tls=chosen.tls_cert is not None), tenant)


@pytest.fixture
def start(broker_url: str | None, tenant: str) -> Start:
    """Start a gateway with settings of its own: `async with start(heartbeat_s=1) as house:`."""
    return lambda **settings: running(settings.pop("nats", broker_url), tenant, **settings)


@pytest.fixture
async def house(start: Start) -> AsyncIterator[Running]:
    """A gateway with settings as they come."""
    async with start() as one:
        yield one


@pytest.fixture
async def http(house: Running) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of `user:ada`."""
    headers = {"Authorization": f"Bearer {house.token()}"}
    async with aiohttp.ClientSession(house.url, headers=headers) as session:
        yield session


@pytest.fixture
async def agent(broker_url: str | None, tenant: str) -> AsyncIterator[Fabric]:
    """An agent that speaks to the broker itself."""
    async with Fabric.connect(broker_url, tenant=tenant, participant="agent:writer") as fabric:
        yield fabric
