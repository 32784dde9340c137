"""Agents that come to the broker over TLS, and show a certificate where that is asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.server_config import TlsFiles, tls_config

from tests.security.native_world import serving
from tests.support.certificates import Authority
from tests.support.natives import guarded_server, refused


@pytest.mark.parametrize("mutual", [False, True], ids=["TLS", "mTLS"])
async def test_everybody_comes_over_tls(tmp_path: Path, tenant: str, mutual: bool) -> None:
    ours, theirs = Authority(tmp_path / "ca", "ours"), Authority(tmp_path / "ca", "theirs")
    server, client = ours.issue("broker"), ours.issue("client", server=False)
    config = "\n".join(tls_config(TlsFiles(server.cert, server.key, ours.file if mutual else None)))
    shown = client if mutual else None
    settings: dict[str, Any] = {"nats_ca": ours.file}
    if mutual:
        settings |= {"nats_cert": client.cert, "nats_key": client.key}
    async with (
        guarded_server(tmp_path, config=config) as guarded,
        serving(guarded, tenant, tls=ours.client(shown), **settings) as world,
    ):
        token = world.token()
        assert not await world.refused(token=token, tls=ours.client(shown))
        # Encrypted or not at all, by a server that one trusts, and with a certificate that it trusts.
        assert b"PONG" not in await plainly(guarded.server.port, token)
        with pytest.raises((OSError, NatsError)):
            await refused(guarded.server.url, token=token, tls=theirs.client(shown))
        if mutual:
            for other in (None, theirs.issue("stranger", server=False)):
                with pytest.raises((OSError, NatsError)):
                    await come_in(guarded.server.url, token, ours.client(other))


async def plainly(port: int, token: str) -> bytes:
    """Return what the server says to who does not encrypt."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b'CONNECT {"auth_token":"%b"}\r\nPING\r\n' % token.encode())
    answer = await reader.readline()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


async def ignore(_: Exception) -> None: ...


async def come_in(url: str, token: str, tls: ssl.SSLContext) -> None:
    client = Connection()
    try:
        await client.connect(url, token=token, tls=tls, allow_reconnect=False, error_cb=ignore)
    finally:
        await client.close()
