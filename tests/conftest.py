"""Fixtures for every test: real servers, one a run, and names that no other test has.

`--broker` chooses what `broker` connects to. Without it the conformance suite runs on memory, on a
nats-server and on three of them, everything else on one nats-server.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import hypothesis
import pytest
import structlog
from session_fabric.ports import Broker
from session_fabric.words.names import new_id

from tests.support.brokers import ASKING, CONTAINER, EVERYWHERE, BrokerKind, Brokers, brokers, parse_option
from tests.support.container_broker import container_broker
from tests.support.containers import ROOT, build
from tests.support.printing import print_all
from tests.support.servers import NatsCluster, NatsNode, nats_node, running
from tests.support.waiting import responsive

# How long an example takes says what else the machine does: no test is about that.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# Until all tests are there nothing is to be collected, see `pytest_collection_finish`.
gc.disable()

# Processes that tests start are told to end by these: a shell's background, or `nohup`, would have them ignored in all.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_CONFORMANCE = Path(__file__).parent / "conformance"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        help="memory, embedded (a nats-server from the wheel), cluster (three), container (an image of it), nats://…",
    )


def pytest_configure(config: pytest.Config) -> None:
    try:
        parse_option(config.getoption("--broker") or "embedded")
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "broker_kind" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption("--broker")
    kinds: tuple[BrokerKind, ...]
    if option is not None:
        kinds = (parse_option(option),)
    else:
        kinds = EVERYWHERE if _CONFORMANCE in metafunc.definition.path.parents else ("embedded",)
    if metafunc.definition.get_closest_marker("needs_rights"):  # what is not for those who may only ask
        kinds = tuple(kind for kind in kinds if kind not in ASKING)
    metafunc.parametrize(
        "broker_kind",
        [pytest.param(kind, marks=pytest.mark.cluster) if kind == "cluster" else kind for kind in kinds],
        scope="session",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what starts a cluster when another broker was asked for; begin with what is slow, then with clusters.

    In the end quick tests are left: no worker has a minute's test before it while the other one is done. What comes
    first goes to one worker, and that one alone starts a cluster.
    """

    def quick(item: pytest.Item) -> tuple[bool, bool]:
        return item.get_closest_marker("slow") is None, item.get_closest_marker("cluster") is None

    items.sort(key=quick)
    if config.getoption("--broker") in (None, "cluster"):
        return
    left_out = [item for item in items if item.get_closest_marker("cluster")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Keep modules and tests from the collector: they stay, and to look at all of them holds a loop up for a second."""
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_all(terminalreporter)


@pytest.fixture(autouse=True)
def logs_as_nobody_configured_them() -> Iterator[None]:
    """Leave no configuration of logs to the tests that come after: where it is asked for, it is for one alone."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    """One nats-server for the whole run. Tests must not stop it; see `own_server`."""
    node = NatsNode(tmp_path_factory.mktemp("nats"))
    with running(node):
        yield node


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """Three nats-servers for the whole run. Whoever stops one starts it again (`await cluster.restart()`)."""
    cluster = NatsCluster(tmp_path_factory.mktemp("cluster"))
    with running(cluster):
        yield cluster


@pytest.fixture(scope="session")
def nats_image() -> str:
    """An image of nats-server: the wheel's, or the one that NATS_IMAGE names."""
    return os.environ.get("NATS_IMAGE") or build(
        "deploy/nats.Dockerfile", "session-fabric-nats:local", directory=ROOT / "requirements"
    )


@pytest.fixture(scope="session")
def shared_container(nats_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a nats-server in a container is, one for the whole run."""
    with container_broker(nats_image, tmp_path_factory.mktemp("container")) as url:
        yield url


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[NatsNode]:
    """A nats-server of the test's own, to kill, freeze and restart."""
    async with nats_node(tmp_path / "nats") as node:
        yield node


@pytest.fixture(scope="session")
def broker_url(broker_kind: BrokerKind, request: pytest.FixtureRequest) -> str | None:
    """Where the broker is; None: in memory."""
    if broker_kind in ("embedded", *ASKING):
        node: NatsNode = request.getfixturevalue("shared_server")
        return node.url
    if broker_kind == "cluster":
        cluster: NatsCluster = request.getfixturevalue("shared_cluster")
        return cluster.url
    if broker_kind == CONTAINER:
        return str(request.getfixturevalue("shared_container"))
    return None if broker_kind == "memory" else str(request.config.getoption("--broker"))


@pytest.fixture
async def connections(broker_kind: BrokerKind, broker_url: str | None) -> AsyncIterator[Brokers]:
    """Opens any number of connections to the test's broker: `await connections.open()`."""
    async with AsyncExitStack() as stack:
        yield brokers(broker_kind, broker_url, stack)


@pytest.fixture
async def broker(connections: Brokers) -> Broker:
    """A connected broker. Others' data may be in it: use the `tenant` fixture's name."""
    return await connections.open()


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test has."""
    return new_id("t")


@pytest.fixture
async def responsive_loop() -> AsyncIterator[None]:
    """Fail the test if it blocked its event loop for a second. Opt-in (`usefixtures`)."""
    async with responsive():
        yield
