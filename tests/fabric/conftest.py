"""Fixtures for the facade: the same tests on the memory broker and on a nats-server.

`--broker` chooses another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from session_fabric import Fabric, Session

from tests.support.brokers import ASKING, SEALED, BrokerKind, brokers, parse_option
from tests.support.servers import NatsCluster, NatsNode
from tests.support.sessions import Fabrics

FACADE: tuple[BrokerKind, ...] = ("memory", SEALED, "embedded", "service")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "facade_kind" in metafunc.fixturenames:
        option = metafunc.config.getoption("--broker")
        kinds = FACADE if option is None else (parse_option(option),)
        if metafunc.definition.get_closest_marker("needs_rights"):
            kinds = tuple(kind for kind in kinds if kind not in ASKING)
        metafunc.parametrize("facade_kind", kinds, scope="session")


@pytest.fixture
async def fabrics(facade_kind: BrokerKind, tenant: str, request: pytest.FixtureRequest) -> AsyncIterator[Fabrics]:
    """Opens connections to one broker, all of the test's own tenant: `await fabrics.open()`."""
    url: str | None = None
    if facade_kind in ("embedded", *ASKING):
        node: NatsNode = request.getfixturevalue("shared_server")
        url = node.url
    elif facade_kind == "cluster":
        cluster: NatsCluster = request.getfixturevalue("shared_cluster")
        url = cluster.url
    elif facade_kind == "url":
        url = str(request.config.getoption("--broker"))
    async with AsyncExitStack() as stack:
        yield Fabrics(brokers(facade_kind, url, stack), tenant, stack)


@pytest.fixture
async def fabric(fabrics: Fabrics) -> Fabric:
    """A connection in the name of `agent:writer`."""
    return await fabrics.open()


@pytest.fixture
def session(fabric: Fabric) -> Session:
    """A session that nobody else has."""
    return fabric.session("chat-1")


@pytest.fixture
async def real(shared_server: NatsNode, tenant: str) -> AsyncIterator[Fabric]:
    """A connection to a nats-server, for what cannot be asked of the memory broker."""
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="agent:writer", streams=4) as fabric:
        yield fabric
