"""What a nats-server tells of connections that end, and what is made of it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.departures import departed, name_of
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.ports import Departure
from session_fabric.words.names import new_id

from tests.support.brokers import connect
from tests.support.servers import NatsCluster, NatsNode, nats_node
from tests.support.waiting import eventually

HOLDER = "a1B2c3D4e5F6g7H8j9K0"
NAME = name_of("session-fabric", HOLDER)
OTHER_PROCESS = textwrap.dedent(
    """
    import asyncio, sys
    from session_fabric.jetstream.broker import JetStreamBroker
    from session_fabric.jetstream.credentials import Credentials

    async def main():
        broker = await JetStreamBroker.connect(sys.argv[1], credentials=Credentials.read(sys.argv[2]))
        print(broker.holder, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
)


def advisory(name: Any = NAME, reason: str = "Client Closed") -> bytes:
    kind = "io.nats.server.advisory.v1.client_disconnect"
    return orjson.dumps({"type": kind, "client": {"name": name}, "reason": reason})


@pytest.mark.parametrize(
    ("reason", "closed"),
    [
        ("Client Closed", True),
        ("Read Error", True),
        ("Stale Connection", False),
        ("Slow Consumer (Pending Bytes)", False),
        ("", False),
    ],
)
def test_the_end_of_a_connection_names_its_holder_and_whether_it_let_go_itself(reason: str, closed: bool) -> None:
    assert departed(advisory(reason=reason)) == Departure(HOLDER, closed)
    assert departed(advisory(name_of("my gateway 2", HOLDER), reason)) == Departure(HOLDER, closed)


@pytest.mark.parametrize("reason", ["Server Shutdown", "Kicked", "Authentication Expired"])
def test_whom_the_broker_itself_has_sent_away_is_not_gone(reason: str) -> None:
    assert departed(advisory(reason=reason)) is None


@pytest.mark.parametrize(
    "name", ["", "nats-box", HOLDER[1:], f"x {HOLDER}0", f"x {HOLDER[1:]}.", f"x {HOLDER} ", None, 7, ["x"]]
)
def test_a_connection_under_another_form_of_name_is_nobodys(name: object) -> None:
    assert departed(advisory(name)) is None


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"7", b"{}", b'{"client":null}', b'{"client":{}}', b'"client"', b"\xff"]
)
def test_what_is_no_advisory_is_left_alone(payload: bytes) -> None:
    assert departed(payload) is None


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    async with await EmbeddedBroker.start(tmp_path / "data", websocket_port=0) as broker:
        yield broker


# nats-py's own way of opening a WebSocket.
@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")
async def test_the_embedded_broker_tells_of_a_killed_process_and_of_websocket_clients(embedded: EmbeddedBroker) -> None:
    assert embedded.websocket_url is not None
    departures: list[str] = []
    broker = await connect(embedded.url, credentials=embedded.credentials)
    await broker.on_departure(lambda each: departures.append(each.holder))
    by_socket = await connect(embedded.websocket_url, credentials=embedded.credentials)
    assert by_socket.topology.streams == broker.topology.streams
    command = [sys.executable, "-c", OTHER_PROCESS, embedded.url, str(embedded.keys.nkey)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - quick
    try:
        assert other.stdout is not None
        holder = (await asyncio.to_thread(other.stdout.readline)).strip()
        other.send_signal(signal.SIGKILL)
        await eventually(lambda: departures == [holder])
    finally:
        other.kill()
        other.wait()
        if other.stdout is not None:
            other.stdout.close()
    await by_socket.close()
    await eventually(lambda: departures == [holder, by_socket.holder])
    await broker.close()


async def test_departures_are_heard_after_an_outage_and_foreign_connections_never(own_server: NatsNode) -> None:
    departures: list[str] = []
    broker, other = await connect(own_server.url), await connect(own_server.url)
    await broker.on_departure(lambda each: departures.append(each.holder))
    generation = broker.generation
    own_server.stop()
    await own_server.restart()
    await eventually(lambda: broker.connected and other.connected and broker.generation > generation)
    for name in ("a tool", None):
        await (await nats.connect(own_server.url, name=name)).close()
    await other.close()
    await eventually(lambda: departures)
    assert departures == [other.holder]
    await broker.close()


async def test_a_node_that_stops_takes_no_process_with_it(shared_cluster: NatsCluster) -> None:
    departures: list[str] = []
    here, there, last = shared_cluster.nodes
    broker = await connect(here.url)
    await broker.on_departure(lambda each: departures.append(each.holder))
    moving = await connect(there.url)
    generation = moving.generation
    try:
        there.stop()
        await eventually(lambda: moving.connected and moving.generation > generation)
        witness = await connect(last.url)
        await witness.close()
        await eventually(lambda: witness.holder in departures)
        assert departures == [witness.holder]
    finally:
        await shared_cluster.restart()
        await moving.close()
        await broker.close()


@pytest.mark.parametrize(
    "config",
    [
        "# no accounts: nothing of the system account's is imported",
        """authorization { users: [
            { user: app, password: app, permissions: { subscribe: { deny: "$SYS.>" } } }
        ] }""",
    ],
    ids=["not imported", "not permitted"],
)
async def test_a_broker_that_does_not_tell_is_silent(tmp_path: Path, config: str) -> None:
    async with nats_node(tmp_path / "nats", config=config) as node:
        credentials = Credentials(user="app", password="app") if "user: app" in config else None
        departures: list[str] = []
        broker, other = [
            await JetStreamBroker.connect(node.url, streams=1, credentials=credentials, name=new_id()) for _ in range(2)
        ]
        hearing = await broker.on_departure(lambda each: departures.append(each.holder))
        await other.close()
        await broker.ping()
        assert broker.connected
        assert departures == []
        await hearing.close()
        await broker.close()
