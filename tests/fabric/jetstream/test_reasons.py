"""A broker that cannot be had: it is told why, and nobody shows it credentials without the TLS that was asked for."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from session_fabric.jetstream.credentials import Credentials, tls_of
from session_fabric.jetstream.dial import Dial
from session_fabric.jetstream.reasons import Reasons
from session_fabric.words.errors import BrokerRefused, BrokerUnavailable, FabricError, InvalidRequest

from tests.support.certificates import Authority
from tests.support.servers import NatsNode, free_port, nats_node
from tests.support.waiting import eventually


async def refused(told: str, url: str, tls: ssl.SSLContext | None = None) -> FabricError:
    """Return why there is no connection, when that says `told`: half a second may be too short to come to know it."""

    async def error() -> FabricError:
        with pytest.raises((BrokerUnavailable, BrokerRefused)) as raised:
            async with Dial(url, Credentials(user="ada", password="secret", tls=tls), "tests", "one").connecting(0.5):
                pass
        assert told in raised.value.message
        return raised.value

    return await eventually(error)


async def closing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do what a proxy does whose broker is not there."""
    writer.close()


async def answering(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "ours")


@pytest.fixture
async def mutual(tmp_path: Path, ours: Authority) -> AsyncIterator[NatsNode]:
    """A broker that asks for certificates; who comes without TLS is let in too."""
    cert, key = ours.issue("broker")
    config = f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{ours.file}", verify: true }}'
    async with nats_node(tmp_path / "mutual", config=f"{config}\nallow_non_tls: true") as node:
        yield node


async def test_a_broker_without_tls_is_not_shown_the_credentials_where_tls_is_wanted(
    tmp_path: Path, ours: Authority
) -> None:
    async with nats_node(tmp_path / "plain") as node:
        for url, tls in ((node.url.replace("nats:", "tls:"), None), (node.url, ours.client())):
            await refused("has no TLS to offer", url, tls)
        dial = Dial(node.url, None, "tests", "one")
        async with dial.connecting(5.0):
            await dial.close()


async def test_tls_that_a_broker_offers_is_taken_where_it_is_wanted(mutual: NatsNode, ours: Authority) -> None:
    shown = ours.client(ours.issue("client", server=False))
    dial = Dial(mutual.url, Credentials(tls=shown), "tests", "one")
    async with dial.connecting(5.0):
        (connection,) = mutual.monitor("/connz")["connections"]
        assert connection["tls_version"] == "1.3"
        assert not dial.connection.server_facts["tls_required"], "the broker does not insist"
    await dial.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # nats-py's, of what it asks of aiohttp
async def test_by_a_websocket_in_the_clear_no_credentials_are_shown_either(tmp_path: Path, ours: Authority) -> None:
    port = free_port()
    async with nats_node(tmp_path / "web", config=f"websocket {{ port: {port}, no_tls: true }}"):
        error = await refused("has no TLS to offer", f"ws://127.0.0.1:{port}", ours.client())
        assert "wss://" in error.hint


async def test_nodes_that_a_broker_tells_of_are_looked_for_under_its_name(tmp_path: Path, ours: Authority) -> None:
    """Brokers tell addresses, and certificates have names."""
    cert, key = ours.issue("broker")
    tls = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}\nallow_non_tls: true\njetstream: false'
    port = free_port()
    cluster = "{{ name: both, host: 127.0.0.1, port: {}, routes: [{}] }}"
    one, other = cluster.format(port, ""), cluster.format(-1, f'"nats://127.0.0.1:{port}"')
    async with (
        nats_node(tmp_path / "one", config=f"{tls}\ncluster {one}") as node,
        nats_node(tmp_path / "other", config=f"{tls}\nserver_name: other\ncluster {other}"),
    ):
        await eventually(lambda: node.monitor("/routez")["num_routes"])
        dial = Dial(f"nats://localhost:{node.port}", Credentials(tls=ours.client()), "tests", "one")
        async with dial.connecting(5.0):
            told = [server for server in dial.connection._server_pool if server.discovered]
            assert told
            assert {server.tls_name for server in told} == {"localhost"}
        await dial.close()


async def test_who_closes_at_once_is_told_from_who_is_no_broker() -> None:
    for serve, told in ((closing, ": it cuts the connection"), (answering, ": what answers is no nats-server")):
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            await refused(told, f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_a_broker_that_takes_no_more_connections_is_told_to_cut_them(tmp_path: Path) -> None:
    async with nats_node(tmp_path / "full", config="max_connections: 1") as node:
        dial = Dial(node.url, None, "tests", "one")
        async with dial.connecting(5.0):
            assert "Error" not in (await refused("connection", node.url)).message
        await dial.close()


async def test_who_shows_a_broker_no_certificate_that_it_trusts_is_told_to_show_one(
    mutual: NatsNode, ours: Authority
) -> None:
    error = await refused("does not accept the certificate", mutual.url, ours.client())
    assert isinstance(error, BrokerRefused)
    assert "SESSION_FABRIC_NATS_CERT" in error.hint


async def test_a_connection_that_is_cut_before_a_certificate_was_looked_at_is_not_said_to_be_refused(
    mutual: NatsNode, ours: Authority
) -> None:
    async def cutting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the broker's greeting on, and cut when TLS begins: as a node that dies, or a proxy."""
        greeting, there = await asyncio.open_connection("127.0.0.1", mutual.port)
        writer.write(await greeting.readline())
        there.close()
        await reader.read(1)
        writer.transport.abort()

    shown = ours.client(ours.issue("client", server=False))
    async with await asyncio.start_server(cutting, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await refused("it asks for certificates, and cuts the connection", url, shown)
    assert isinstance(error, BrokerUnavailable)
    for what in ("SESSION_FABRIC_NATS_CERT", "on the way", "log"):
        assert what in error.hint


async def test_the_end_of_a_connection_over_tls_is_not_told_by_asyncio(
    mutual: NatsNode, ours: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    dial = Dial(mutual.url, Credentials(tls=ours.client(ours.issue("client", server=False))), "tests", "one")
    async with dial.connecting(5.0):
        mutual.kill()
        await eventually(lambda: not dial.connected)
    await dial.close()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_broker_that_cannot_be_reached_is_told_with_what_each_address_came_to() -> None:
    async with await asyncio.start_server(closing, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{free_port()},nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        message = (await refused("; ", url)).message
    assert "connection refused" in message
    assert "it cuts the connection" in message


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (socket.gaierror(-2, "Name or service not known"), "its name is not known"),
        (TimeoutError(), "nobody answers (tried for 3 s)"),
        (OSError("Multiple exceptions: [Errno 111] Connect …, [Errno 113] Connect …"), "refused or no route to host"),
        (RuntimeError("x" * 5000), "what answers speaks otherwise (RuntimeError)"),
    ],
)
def test_a_reason_is_told_in_a_few_words(error: Exception, told: str) -> None:
    reasons = Reasons()
    reasons.add(error)
    reasons.add(error)
    assert told in reasons.error("nats://here:4222", 3.0, TimeoutError(), reached=False).message


def test_files_for_tls_that_cannot_be_used_are_named(tmp_path: Path, ours: Authority) -> None:
    one, other = ours.issue("one"), ours.issue("other")
    for ca, cert, key, named in (
        (tmp_path / "none.pem", None, None, "none.pem does not say who signs"),
        (one.key, None, None, "one.key.pem does not say who signs"),
        (ours.file, one.cert, None, "no key was named"),
        (ours.file, one.cert, tmp_path / "none.pem", "none.pem cannot be read"),
        (ours.file, one.cert, other.key, "other.key.pem are not a certificate and its key"),
    ):
        with pytest.raises(InvalidRequest, match=named):
            tls_of(ca, cert, key)
