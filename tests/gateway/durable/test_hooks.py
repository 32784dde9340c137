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
        "https://[::127.0.0.1]/", "https://[::8.8.8.8]/", "https://[::ffff:0:7f00:1]/", "https://[64:ff9b:1::a00:1]/",
        "https://[fec0::1]/", "https://[3fff::1]/", "https://192.0.0.192/", "https://[::ffff:192.0.0.192]/",
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
    "url",
    [
        "https://a b/", "https://a%20b/", "https://a\tb.example/", "https://a.example/x y", "https://a.example/\n",
        "https://a..example/", "https://a*.example/", "https://a{b}.example/", f"https://{'a' * 64}.example/",
        "https://a.example:0/", "https://\x00a.example/",
    ],
)  # fmt: skip
def test_what_no_host_is_called_is_refused_though_an_operator_listed_it(url: str) -> None:
    host = url.removeprefix("https://").partition("/")[0]
    with pytest.raises(WebhookRefused, match="is not a URL"):
        Hooks([host], local=True).check(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "１２７.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::127.0.0.1]"]
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
    "url",
    [
        "https://example.com/a?b=c",
        "https://bücher.example/",
        "https://my_host.example/",
        "https://[2606:4700::1]:8443/",
    ],
)
def test_public_hosts_are_called_and_those_that_are_listed(url: str) -> None:
    assert Hooks([], local=False).check(url) == url
    assert Hooks(["10.0.0.1"], local=False).check("http://10.0.0.1/") == "http://10.0.0.1/"
    assert Hooks([], local=True).check("http://localhost:1234/") == "http://localhost:1234/"


@pytest.mark.parametrize("listed", ["hooks.internal", "Hooks.Internal", "hooks.internal."])
@pytest.mark.parametrize("host", ["hooks.internal", "HOOKS.internal", "hooks.internal."])
def test_a_listed_host_is_the_same_however_it_is_spelled(listed: str, host: str) -> None:
    assert Hooks([listed], local=False).check(f"http://{host}/") == f"http://{host}/"
    assert Hooks(["fd00:0::7"], local=False).check("https://[FD00::7]/")


@pytest.mark.parametrize(
    "address",
    [
        "64:ff9b::a00:1", "2002:a00:1::", "::ffff:10.0.0.1", "ff02::1", "224.0.0.1", "::", "::10.0.0.1", "::8.8.8.8",
        "64:ff9b:1::808:808", "ff0e::1", "fd00::1", "192.0.0.192", "2001:db8::1", "5f00::1",
    ],
)  # fmt: skip
def test_an_address_that_leads_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["64:ff9b::808:808", "2002:808:808::", "::ffff:8.8.8.8", "8.8.8.8", "2606:4700::1"])
def test_an_address_that_leads_outside_is_public(address: str) -> None:
    assert is_public(address)
