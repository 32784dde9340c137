"""Which URLs are called as webhooks: however a host of one's own network is spelled, it is not."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric_gateway.durable.hooks import Hooks, WebhookRefused, is_public


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://１２７.0.0.1/", "https://127。0。0。1/", "https://10.0.0.1/",
        "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/", "https://100.64.0.1/",
        "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[fe80::1%25eth0]/",
        "https://localhost/", "https://localhost./", "https://ⓛocalhost/", "https://a.localhost/",
        "https://127.1/", "https://0/", "https://2130706433/", "https://0x7f.1/", "https://127.0x1/", "https://0177.0.0.1/",
        "https://a.internal/", "https://a.local./", "http://example.com/", "https://u:p@example.com/",
        "https://example.com:99999/", "https:///", "ftp://example.com/", "https://[::/",
    ],
)  # fmt: skip
def test_what_is_not_a_public_https_host_is_refused(url: str) -> None:
    with pytest.raises(WebhookRefused):
        Hooks([], local=False).check(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "１２７.0.0.1", "localhost", "[::ffff:127.0.0.1]"]
)
async def test_nothing_of_this_machine_is_connected_to(host: str) -> None:
    called = asyncio.Event()
    server = await asyncio.start_server(lambda *_: called.set(), "127.0.0.1", 0)
    hooks = Hooks([], local=False)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await hooks.post(f"https://{host}:{port}/", b"{}", "") is None
        await hooks.close()
    assert not called.is_set()


@pytest.mark.parametrize(
    "url", ["https://example.com/a?b=c", "https://bücher.example/", "https://[2606:4700::1]:8443/"]
)
def test_public_hosts_are_called_and_those_that_are_listed(url: str) -> None:
    assert Hooks([], local=False).check(url) == url
    assert Hooks(["10.0.0.1"], local=False).check("http://10.0.0.1/") == "http://10.0.0.1/"
    assert Hooks([], local=True).check("http://localhost:1234/") == "http://localhost:1234/"


@pytest.mark.parametrize("address", ["64:ff9b::a00:1", "2002:a00:1::", "::ffff:10.0.0.1", "ff02::1", "224.0.0.1", "::"])
def test_an_address_that_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["64:ff9b::808:808", "2002:808:808::", "8.8.8.8", "2606:4700::1"])
def test_an_address_that_leads_outside_is_public(address: str) -> None:
    assert is_public(address)
