"""TLS at the gateway: served, exchanged under way, asked of clients, and no handshake without end."""

from __future__ import annotations

import asyncio
import os
import ssl
import warnings
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway.settings import Settings

from tests.gateway.conftest import Running, Start
from tests.gateway.processes import gateway_process
from tests.gateway.sockets import connect, user_message
from tests.support.certificates import Authority, Pair
from tests.support.servers import NatsNode
from tests.support.waiting import eventually


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "ours")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("gateway")


async def served(house: Running, context: ssl.SSLContext) -> bytes:
    """Return the certificate that a new connection is shown."""
    host, port = house.url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(shown)


async def test_sockets_and_requests_are_served_over_tls(start: Start, authority: Authority, pair: Pair) -> None:
    client = authority.client()
    async with start(tls_cert=pair.cert, tls_key=pair.key) as house:
        assert house.url.startswith("https://")
        async with connect(house.url, ssl=client) as socket:
            await socket.hello(house.token())
            await socket.open("s1")
            big = {"type": "app.bulk", "text": "x" * 1_000_000}
            assert (await socket.append("s1", big))["op"] == "appended"
            await socket.until_events(lambda events: any(event["type"] == "app.bulk" for event in events))
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with (
            aiohttp.ClientSession(house.url, headers=headers) as http,
            http.post("/v1/sessions/s1/events", json={"body": user_message("x")}, ssl=client) as response,
        ):
            assert response.status == 201


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_old_tls_is_not_spoken(start: Start, authority: Authority, pair: Pair, version: ssl.TLSVersion) -> None:
    async with start(tls_cert=pair.cert, tls_key=pair.key) as house:
        client = authority.client()
        client.minimum_version = client.maximum_version = version
        assert await served(house, client)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(authority.file)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):  # Python's own, of versions that nobody should speak
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served(house, old)


async def test_a_certificate_that_is_exchanged_is_served_from_then_on_and_nobody_is_cut(
    start: Start, authority: Authority, pair: Pair
) -> None:
    client = authority.client()
    async with start(tls_cert=pair.cert, tls_key=pair.key) as house, connect(house.url, ssl=client) as before:
        await before.hello(house.token())
        first = await served(house, client)
        authority.issue("gateway-2", into=pair)

        async def exchanged() -> bool:
            return await served(house, client) != first

        await eventually(exchanged)
        assert (await before.ask("ping"))["op"] == "pong"


async def test_a_certificate_without_its_key_is_not_taken_until_the_key_is_there(
    start: Start, authority: Authority, pair: Pair
) -> None:
    client = authority.client()
    async with start(tls_cert=pair.cert, tls_key=pair.key) as house:
        first = await served(house, client)
        other = authority.issue("gateway-2")
        tls = house.gateway.tls
        assert tls is not None
        pair.cert.write_bytes(other.cert.read_bytes())
        tls.check()
        assert await served(house, client) == first
        pair.key.unlink()
        tls.check()
        assert await served(house, client) == first
        pair.key.write_bytes(other.key.read_bytes())
        tls.check()
        assert await served(house, client) != first


async def test_clients_without_a_certificate_of_ours_are_not_let_in(
    start: Start, authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    ours = authority.issue("ada", server=False)
    stranger = Authority(tmp_path / "other", "other").issue("eve", server=False)
    async with start(tls_cert=pair.cert, tls_key=pair.key, tls_client_ca=authority.file) as house:

        async def healthy(shown: Pair | None) -> Any:
            async with (
                aiohttp.ClientSession(house.url) as http,
                http.get("/healthz", ssl=authority.client(shown)) as response,
            ):
                return response.status

        assert await healthy(ours) == 200
        for shown in (None, stranger):
            with pytest.raises(aiohttp.ClientError):
                await healthy(shown)
        async with connect(house.url, ssl=authority.client(ours)) as socket:
            await socket.hello(house.token())  # a certificate opens the door, and is nobody's name
        await eventually(lambda: len(house.gateway.door.strangers) == 0)


async def test_handshakes_that_do_not_come_to_their_end_are_cut_and_leave_nothing(
    start: Start, authority: Authority, pair: Pair
) -> None:
    async with start(tls_cert=pair.cert, tls_key=pair.key, head_s=0.5) as house:
        before = len(os.listdir("/proc/self/fd"))
        host, port = house.url.removeprefix("https://").split(":")
        there = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
        there[0][1].write(b"\x16\x03\x01\x02\x00\x01")
        there[1][1].write(b"GET / HTTP/1.1\r\n\r\n")
        await eventually(lambda: len(house.gateway.door.strangers) >= 45)
        assert await served(house, authority.client())
        for reader, writer in there:
            try:
                async with asyncio.timeout(10):
                    await reader.read()
            except ConnectionError:
                pass
            writer.close()
        await eventually(lambda: len(house.gateway.door.strangers) == 0)
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert house.gateway.metrics.cuts.labels("handshake")._value.get() == 50


async def test_handshakes_are_strangers_and_the_oldest_goes_for_one_too_many(
    start: Start, authority: Authority, pair: Pair
) -> None:
    async with start(tls_cert=pair.cert, tls_key=pair.key, limit=["address.strangers=5"]) as house:
        before = len(os.listdir("/proc/self/fd"))
        host, port = house.url.removeprefix("https://").split(":")
        there = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        async with connect(house.url, ssl=authority.client()) as socket:
            await socket.hello(house.token())
        assert house.gateway.metrics.cuts.labels("address_strangers")._value.get() == 16
        for _, writer in there:
            writer.close()
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_an_address_with_too_many_handshakes_is_cut_before_they_cost_anything(
    start: Start, authority: Authority, pair: Pair
) -> None:
    async with start(tls_cert=pair.cert, tls_key=pair.key, limit=["address.connections=0.01/2"]) as house:
        client = authority.client()
        for _ in range(2):
            await served(house, client)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await served(house, client)
        assert house.gateway.metrics.cuts.labels("address_connections")._value.get() == 1


async def test_workers_serve_tls_and_say_so(
    shared_server: NatsNode, tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    options = ("--insecure", "--drain", "0", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    async with gateway_process(shared_server.url, tmp_path, *options, "--workers", "2") as one:
        assert one.said["ws"].startswith("wss://")
        for _ in range(4):
            async with connect(one.url, ssl=authority.client()) as socket:
                await socket.hello()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tls_cert": "c"}, "go together"),
        ({"tls_key": "k"}, "go together"),
        ({"tls_client_ca": "a"}, "is for TLS"),
        ({"tls_cert": "/nonexistent", "tls_key": "/nonexistent"}, "cannot be read"),
        ({"tls_cert": "key", "tls_key": "key"}, "cannot be used"),
        ({"tls_cert": "cert", "tls_key": "other"}, "cannot be used"),
        ({"tls_cert": "cert", "tls_key": "locked"}, "cannot be used"),
        ({"tls_cert": "cert", "tls_key": "key", "tls_client_ca": "key"}, "client authorities"),
    ],
)
def test_wrong_files_are_refused_with_a_sentence(
    authority: Authority, pair: Pair, tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    locked.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))
    files = {"cert": pair.cert, "key": pair.key, "other": authority.issue("other").key, "locked": locked}
    chosen = {name: files.get(value, value) for name, value in settings.items()}
    with pytest.raises(InvalidRequest, match=said):
        Settings.model_validate({"insecure": True, **chosen}).check()
