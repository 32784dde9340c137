"""An issuer on the other side of TLS, of a proxy, and what is counted of its keys."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway.settings import Settings
from session_fabric_gateway.tokens.issuer import Jwks, proxy_for
from structlog.testing import capture_logs

from tests.gateway.conftest import Running, Start
from tests.gateway.test_metrics import value
from tests.gateway.tokens.signing import Issuer, issuer, jwk, jwks, private_key
from tests.gateway.tokens.test_live import of, status
from tests.support.certificates import Authority
from tests.support.forwarding import forwarder
from tests.support.waiting import eventually

ONE, TWO = private_key("EdDSA", 1), private_key("EdDSA", 2)
P = "session_fabric_gateway_"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def secured(authority: Authority, *keys: dict[str, Any]) -> AsyncIterator[Issuer]:
    """An issuer whose certificate an authority has signed that no system knows."""
    pair = authority.issue("issuer")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    async with issuer(*keys, tls=context) as one:
        yield one


def trusting(there: Issuer, **more: Any) -> dict[str, Any]:
    return {
        "token_jwks_url": there.url,
        "token_issuer": ("https://id.example",),
        "token_audience": "fabric",
        "dev_secret": None,
        **more,
    }


async def asked(house: Running) -> tuple[int, str | None]:
    return await status(house, of(house, iss="https://id.example", aud="fabric"))


def fetches(house: Running, outcome: str) -> float:
    return value(house, f"{P}jwks_fetches_total", outcome=outcome)


async def test_an_issuer_of_a_private_authority_is_believed_where_that_is_trusted(start: Start, tmp_path: Path) -> None:
    ours, other = Authority(tmp_path / "a", "ours"), Authority(tmp_path / "b", "other")
    async with secured(ours, jwk("EdDSA", ONE, "k1")) as there:
        async with start(**trusting(there, token_jwks_ca=ours.file)) as house:
            assert await asked(house) == (200, None)
            assert (fetches(house, "fetched"), fetches(house, "unreachable")) == (1, 0)
        for ca in (None, other.file):
            async with start(**trusting(there, token_jwks_ca=ca)) as house:
                assert await asked(house) == (503, "keys_unavailable")
                assert (fetches(house, "fetched"), fetches(house, "unreachable")) == (0, 1)
        assert there.asked == 1


async def test_the_systems_trust_counts_where_no_authority_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenSSL has it: SSL_CERT_FILE is in the place of what the system came with."""
    ours = Authority(tmp_path, "ours")
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.file))
    async with secured(ours, jwk("EdDSA", ONE, "k1")) as there, aiohttp.ClientSession() as http:
        jwks = Jwks(there.url)
        await jwks.refresh(http)
        assert [key.kid for key in jwks.keys] == ["k1"]


async def test_an_authority_is_changed_without_a_restart(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path / "a", "ours"), Authority(tmp_path / "b", "other")
    file = tmp_path / "ca.pem"
    file.write_bytes(other.file.read_bytes())
    async with secured(ours, jwk("EdDSA", ONE, "k1")) as there, aiohttp.ClientSession() as http:
        jwks = Jwks(there.url, ca=file, at_least_s=0.0)
        await jwks.refresh(http)
        assert not jwks.keys
        file.write_bytes(ours.file.read_bytes())
        await jwks.refresh(http)
        assert [key.kid for key in jwks.keys] == ["k1"]
        file.unlink()
        await jwks.refresh(http)
        assert [key.kid for key in jwks.keys] == ["k1"]


async def test_one_key_that_is_none_does_not_spoil_the_others_and_is_named_once() -> None:
    async with issuer(jwk("EdDSA", ONE, "k1")) as there, aiohttp.ClientSession() as http:
        told = jwk("EdDSA", ONE, "k1"), "a key", {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "k2"}
        there.body = jwks(*told).encode()
        one = Jwks(there.url, at_least_s=0.0)
        with capture_logs() as logs:
            await one.refresh(http)
            await one.refresh(http)
            assert [key.kid for key in one.keys] == ["k1"]
            there.body = jwks(jwk("EdDSA", TWO, "k3"), *told).encode()
            await one.refresh(http)
            assert [key.kid for key in one.keys] == ["k3", "k1"]
    assert there.asked == 3
    assert [(line["event"], line["log_level"], line["keys"], line["detail"]) for line in logs] == [
        (
            "jwks_keys_left_out",
            "warning",
            2,
            f"Key {first} is no JSON object. Key {second} is a secret, and everybody can read it here.",
        )
        for first, second in ((1, 2), (2, 3))
    ]
    assert "c2VjcmV0" not in str(logs)


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("no certificate", "holds no certificate")])
def test_an_authority_that_is_none_is_said_at_the_start(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    settings = Settings(
        token_jwks_url="https://id.example/keys", token_issuer=("i",), token_audience="a", token_jwks_ca=file
    )
    with pytest.raises(InvalidRequest, match=said):
        settings.check()


def test_an_authority_goes_with_an_issuer_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--token-jwks-ca is for --token-jwks-url"):
        Settings(dev_secret="x" * 32, token_jwks_ca=tmp_path / "ca.pem").check()


async def test_an_issuer_is_asked_through_the_proxy_and_its_certificate_is_looked_at_all_the_same(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = Authority(tmp_path / "a", "ours"), Authority(tmp_path / "b", "other")
    async with secured(ours, jwk("EdDSA", ONE, "k1")) as there, forwarder() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://user:secret@"))
        async with start(**trusting(there, token_jwks_ca=ours.file)) as house:
            assert await asked(house) == (200, None)
        target = there.url.removeprefix("https://").removesuffix("/jwks")
        assert proxy.asked == [target]
        assert proxy.shown == ["Basic dXNlcjpzZWNyZXQ="]
        async with start(**trusting(there, token_jwks_ca=other.file)) as house:
            assert await asked(house) == (503, "keys_unavailable")
        assert proxy.asked == [target] * 2
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        async with start(**trusting(there, token_jwks_ca=ours.file)) as house:
            assert await asked(house) == (200, None)
        assert proxy.asked == [target] * 2


def test_a_proxy_is_for_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", ".internal.example,id.example")
    assert proxy_for("https://issuer.example/keys") == "http://proxy.example:3128"
    assert proxy_for("https://id.example:8443/keys") is None
    assert proxy_for("https://a.internal.example/keys") is None
    assert proxy_for("http://127.0.0.1/keys") is None
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    with pytest.raises(InvalidRequest, match="HTTPS_PROXY"):
        proxy_for("https://issuer.example/keys")


async def test_what_is_known_of_an_issuer_is_counted(start: Start) -> None:
    async with issuer(jwk("EdDSA", ONE, "k1"), jwk("EdDSA", TWO, "k2")) as there:
        async with start(**trusting(there)) as house:
            assert value(house, f"{P}token_keys", source="issuer") == 2
            assert value(house, f"{P}token_keys", source="own") == 0
            young = value(house, f"{P}jwks_age_seconds")
            await eventually(lambda: value(house, f"{P}jwks_age_seconds") > young)
            assert fetches(house, "fetched") == 1
        there.body = b"{}"
        async with start(**trusting(there)) as house:
            assert (fetches(house, "fetched"), fetches(house, "unusable")) == (0, 1)
            assert value(house, f"{P}token_keys", source="issuer") == 0
            await eventually(lambda: value(house, f"{P}jwks_age_seconds") > 0)
    async with start() as house:
        assert value(house, f"{P}token_keys", source="own") == 1
        assert value(house, f"{P}jwks_age_seconds") == 0
