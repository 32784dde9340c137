"""Who gets in at the broker by a token, and who does not."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from session_fabric import Fabric
from session_fabric.jetstream.seeds import Seed
from session_fabric.words.packing import pack
from session_fabric.words.subjects import (
    holder_of,
    service_subject,
)
from structlog.testing import capture_logs

from tests.gateway.conftest import SECRET
from tests.security.attacks import runs
from tests.security.native_world import HELPER, World, b64, serving
from tests.support.natives import guarded_server, refused
from tests.support.waiting import eventually


async def test_an_agent_with_a_token_comes_in_and_answers(world: World) -> None:
    async with world.native() as fabric:
        async with fabric.session("chat-1").run() as run:
            await run.text("Hello")
        assert [m.content for m in (await world.fabric.session("chat-1").messages()).messages] == ["Hello"]


@pytest.mark.parametrize("participant", ["agent:a", "service:a", "operator:a", "supervisor:a"])
async def test_every_role_but_users_comes_in(world: World, participant: str) -> None:
    assert not await world.refused(token=world.token(participant))


# --- who does not come in ---------------------------------------------------------------------------


def bad_tokens(world: World, signing: Ed25519PrivateKey) -> dict[str, tuple[str | None, str]]:
    """Return tokens, each with the reason for which it is refused."""
    now = int(time.time())
    good = {"sub": HELPER, "tenant": world.tenant, "iat": now, "exp": now + 600}
    public = signing.public_key()
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def signed(key: Any, algorithm: str, claims: dict[str, Any] = good, **header: Any) -> str:
        return jwt.encode(claims, key, algorithm=algorithm, headers=header)

    def by_hand(header: dict[str, Any], secret: bytes) -> str:
        data = b".".join(b64(json.dumps(part).encode()) for part in (header, good))
        return (data + b"." + b64(hmac.digest(secret, data, "sha256"))).decode()

    return {
        "no token": (None, "missing"),
        "an empty one": ("", "missing"),
        "no JWT": ("x", "malformed"),
        "too long": (world.token(more="x" * 12_500), "malformed"),
        "of no algorithm": (signed(None, "none"), "algorithm"),
        "a public key for a secret, as PEM": (by_hand({"alg": "HS256", "kid": "k"}, pem), "algorithm"),
        "a public key for a secret, raw": (by_hand({"alg": "HS256", "kid": "k"}, raw), "algorithm"),
        "a public key for a secret, no kid": (by_hand({"alg": "HS256"}, raw), "signature"),
        "of an unknown key": (signed(Ed25519PrivateKey.generate(), "EdDSA", kid="other"), "key"),
        "of another key of that name": (signed(Ed25519PrivateKey.generate(), "EdDSA", kid="k"), "signature"),
        "of another secret": (signed("x" * 40, "HS256"), "signature"),
        "expired": (world.token(expires_in_s=-5), ""),
        "to come": (world.token(nbf=now + 300), "not_yet"),
        "for another audience": (world.token(aud="others"), "audience"),
        "without an end": (signed(SECRET, "HS256", {k: v for k, v in good.items() if k != "exp"}), "claims"),
        "for a year": (world.token(expires_in_s=365 * 86400), "claims"),
        "of nobody": (signed(SECRET, "HS256", {**good, "sub": "helper"}), "claims"),
        "granting nothing that is": (world.token(sessions={"a": ["everything"]}), "grants"),
        "a user's": (world.token("user:ada"), "role"),
    }


BAD = (
    *("no token", "an empty one", "no JWT", "too long", "of no algorithm", "a public key for a secret, as PEM"),
    *("a public key for a secret, raw", "a public key for a secret, no kid", "of an unknown key"),
    *("of another key of that name", "of another secret", "expired", "to come", "for another audience"),
    *("without an end", "for a year", "of nobody", "granting nothing that is", "a user's"),
)


@runs("Q5")
async def test_who_has_no_good_token_is_refused_and_the_log_says_why_and_no_token(tmp_path: Path, tenant: str) -> None:
    signing = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA"}
    jwk["x"] = b64(signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    async with (
        guarded_server(tmp_path, config="debug: true") as guarded,
        serving(guarded, tenant, token_keys=json.dumps({"keys": [jwk]})) as world,
    ):
        tokens = bad_tokens(world, signing)
        assert set(tokens) == set(BAD)
        for name, (token, reason) in tokens.items():
            with capture_logs() as logs:
                assert await world.refused(**({} if token is None else {"token": token})), name
            (entry,) = [one for one in logs if one["event"] == "native_refused"]
            assert entry["reason"] == reason, name
            assert not token or len(token) < 3 or token not in json.dumps(logs), name
            assert not token or len(token) < 3 or token not in guarded.server.log.read_text(), name
        # That it is not everything that is refused:
        good = {"sub": HELPER, "tenant": tenant, "iat": int(time.time()), "exp": int(time.time()) + 600}
        assert not await world.refused(token=jwt.encode(good, signing, algorithm="EdDSA", headers={"kid": "k"}))
        assert not await world.refused(token=world.token())


@runs("Q5")
@pytest.mark.parametrize(
    "options",
    [
        {"user": "fabric", "password": "x"},
        {"user": HELPER, "password": "x"},
        {"nkeys_seed_str": Seed.new("user").text},
        {"nkeys_seed_str": Seed.new("account").text},
    ],
    ids=["a password", "a participant's name", "a foreign key", "an account's key"],
)
async def test_other_ways_to_introduce_oneself_do_not_count(world: World, options: dict[str, str]) -> None:
    assert await world.refused(**options)


async def test_the_public_key_of_the_fabric_is_not_enough(world: World) -> None:
    # The server asks for a signature of its nonce.
    public = world.guarded.door.user
    reader, writer = await asyncio.open_connection("127.0.0.1", world.guarded.server.port)
    await reader.readline()
    writer.write(b'CONNECT {"nkey":"%b","sig":"AAAA"}\r\nPING\r\n' % public.encode())
    assert b"Authorization" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_revoked_token_and_a_revoked_participant_are_refused(world: World) -> None:
    token, other = world.token(jti="t1"), world.token("agent:other")
    assert not await world.refused(token=token)
    assert not await world.refused(token=other)
    await world.revoke("token", "t1")
    await world.revoke("participant", "agent:other")
    await eventually(lambda: world.refused(token=token))
    await eventually(lambda: world.refused(token=other))
    assert not await world.refused(token=world.token(jti="t2"))


@runs("Q6")
async def test_nobody_comes_in_under_the_name_of_anothers_process(world: World) -> None:
    victim = f"session-fabric {world.fabric.broker.holder}"
    assert await world.refused(token=world.token(), name=victim)
    assert not await world.refused(token=world.token(), name=f"x {holder_of(world.tenant, HELPER)}")
    assert not await world.refused(token=world.token(), name="a tool of mine")


async def test_without_a_gateway_agents_wait_outside_and_the_fabrics_own_come_in(tmp_path: Path, tenant: str) -> None:
    async with guarded_server(tmp_path) as guarded:
        assert await refused(guarded.server.url, token="x")
        async with Fabric.connect(guarded.server.url, credentials=guarded.own, streams=1) as fabric:
            assert fabric.broker.connected


async def test_a_gateway_that_lets_everybody_in_does_not_at_the_broker(tmp_path: Path, tenant: str) -> None:
    async with guarded_server(tmp_path) as guarded, serving(guarded, tenant, insecure=True) as world:
        for token in ("", HELPER, "user:ada"):
            assert await world.refused(token=token)
        async with world.inside(world.token(sessions={"mine": ["read"]})) as visitor:
            # What the gateway would believe of a page is not believed here.
            subject = service_subject(world.tenant, HELPER, "home")
            asked = pack({"place": [world.tenant, "theirs"]})
            for claimed in ("", HELPER):
                answer = await visitor.client.request(subject, asked, headers={"Sf-Token": claimed}, timeout=5)
                assert b"unauthenticated" in answer.data


# --- the wire -----------------------------------------------------------------------------------------


async def test_questions_may_go_unsealed_where_the_server_has_no_curve_key(tmp_path: Path, tenant: str) -> None:
    async with guarded_server(tmp_path, curve=False) as guarded, serving(guarded, tenant) as world:
        assert not await world.refused(token=world.token())
        assert await world.refused(token="x")
