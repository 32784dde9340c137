"""Whose connection to the broker ends, and when."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import jwt
import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nats.errors import TimeoutError as NatsTimeout
from session_fabric import Fabric
from session_fabric.jetstream.seeds import Seed
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import Of, Revocation
from session_fabric_gateway.natives.admitting import MOST_SUBSCRIPTIONS
from structlog.testing import capture_logs

from tests.gateway.conftest import running
from tests.security.attacks import runs
from tests.security.native_world import HELPER, World, b64, serving
from tests.support.natives import guarded_server


@runs("Q7")
async def test_a_token_that_ends_ends_its_connection(world: World) -> None:
    async with world.inside(world.token(expires_in_s=2)) as visitor:
        await asyncio.wait_for(visitor.closed.wait(), 30)


@runs("Q9")
async def test_who_has_more_subscriptions_than_are_let_is_cut(world: World) -> None:
    async with world.inside(world.token()) as cut, world.inside(world.token()) as left:
        for visitor, number in ((cut, MOST_SUBSCRIPTIONS + 1), (left, MOST_SUBSCRIPTIONS // 2)):
            client = visitor.client
            for sid in range(number):
                await client._send_command(b"SUB sf-live.%b.> %d\r\n" % (world.tenant.encode(), 1_000_000 + sid))
            await client.flush()
        await world.revoke("token", "anothers")  # whatever is revoked, it looks at all
        await asyncio.wait_for(cut.closed.wait(), 30)
        await left.client.flush()
        assert not left.closed.is_set()


@runs("Q7")
@pytest.mark.parametrize(("of", "name"), [("token", "t1"), ("participant", HELPER), ("session", "any")])
async def test_revoking_cuts_live_connections_and_no_others(world: World, of: Of, name: str) -> None:
    elsewhere = world.house.token(HELPER, tenant=f"{world.tenant}b", iat=int(time.time()), jti="t1")
    async with world.inside(world.token(jti="t1")) as cut, world.inside(elsewhere) as left:
        await world.revoke(of, name)
        await asyncio.wait_for(cut.closed.wait(), 30)
        await left.client.flush()
        assert not left.closed.is_set()
        assert world.fabric.broker.connected


@runs("Q7")
async def test_a_key_that_is_taken_away_cuts_what_it_has_signed(tmp_path: Path, tenant: str) -> None:
    signing, keys = Ed25519PrivateKey.generate(), tmp_path / "keys.json"

    def publish(*names: str) -> None:
        x = b64(signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
        other = b64(Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
        jwks = [{"kty": "OKP", "crv": "Ed25519", "kid": n, "x": x if n == "k" else other} for n in names]
        keys.write_text(json.dumps({"keys": jwks}))

    publish("k", "next")
    async with guarded_server(tmp_path) as guarded, serving(guarded, tenant, token_keys=str(keys)) as world:
        good = {"sub": HELPER, "tenant": tenant, "iat": int(time.time()), "exp": int(time.time()) + 600}
        token = jwt.encode(good, signing, algorithm="EdDSA", headers={"kid": "k"})
        async with world.inside(token) as cut, world.inside(world.token()) as left:
            publish("next")
            await asyncio.wait_for(cut.closed.wait(), 30)
            await left.client.flush()
        assert await world.refused(token=token)


async def test_what_was_revoked_while_no_gateway_was_there_is_cut_by_the_next(tmp_path: Path, tenant: str) -> None:
    async with guarded_server(tmp_path) as guarded, AsyncExitStack() as stack:
        async with serving(guarded, tenant) as world:
            visitor = await stack.enter_async_context(world.inside(world.token(jti="t1")))
        async with Fabric.connect(guarded.server.url, credentials=guarded.own) as fabric:
            now_ms = time.time_ns() // 1_000_000
            revocation = Revocation(tenant, "token", "t1", now_ms, now_ms + 600_000)
            await revoke(fabric.broker, revocation, by="operator:ann", now_ms=now_ms)
            await visitor.client.flush()
        async with serving(guarded, tenant):
            await asyncio.wait_for(visitor.closed.wait(), 30)


async def test_several_gateways_share_the_questions_and_one_that_goes_is_not_missed(
    tmp_path: Path, tenant: str
) -> None:
    async with guarded_server(tmp_path) as guarded, serving(guarded, tenant) as world:
        async with running(guarded.server.url, tenant, nats_credentials=guarded.nkey, native_agents=str(guarded.seeds)):
            with capture_logs() as logs:
                for _ in range(10):
                    assert not await world.refused(token=world.token())
            assert len([one for one in logs if one["event"] == "native_admitted"]) == 10
        assert not await world.refused(token=world.token())


@runs("Q8")
async def test_questions_that_no_server_has_asked_are_not_answered(world: World) -> None:
    client = await nats.connect(world.guarded.server.url, nkeys_seed=str(world.guarded.nkey))
    try:
        stranger = Seed.new("account")
        claims = {"iss": stranger.public, "aud": "nats-authorization-request", "exp": 2**40, "nats": {}}
        for payload in (b"", b"x", b"a.b.c", b".".join([b64(b"{}"), b64(json.dumps(claims).encode()), b64(b"x")])):
            for headers in (None, {"Nats-Server-Xkey": "XAAA"}, {"Nats-Server-Xkey": Seed.new("curve").public}):
                with pytest.raises(NatsTimeout):
                    await client.request("$SYS.REQ.USER.AUTH", payload, headers=headers, timeout=0.2)
    finally:
        await client.close()
    assert not await world.refused(token=world.token())
