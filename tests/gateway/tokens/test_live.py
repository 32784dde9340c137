"""Gateways that take tokens: what they are told, and what revoking does to those who are in."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from session_fabric import Fabric
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import Of, revocation
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway.settings import Settings

from tests.gateway.conftest import SECRET, Running, Start
from tests.gateway.sockets import Client, connect, greeted, user_message
from tests.gateway.tokens.signing import issuer, jwk, jwks, pem, private_key, token
from tests.support.waiting import eventually

ONE, TWO = private_key("EdDSA", 1), private_key("EdDSA", 2)
KEYS: dict[str, Any] = {"token_keys": jwks(jwk("EdDSA", ONE, "k1")), "dev_secret": None}


def of(house: Running, participant: str = "user:ada", **more: Any) -> str:
    """Make a token that was issued a minute ago."""
    at = int(time.time()) - 60
    return token(key=ONE, **({"sub": participant, "tenant": house.tenant, "iat": at} | more))


async def take_back(agent: Fabric, what: Of, name: str, at_ms: int | None = None) -> None:
    now = at_ms or time.time_ns() // 1_000_000
    wanted = revocation(agent.tenant, what, name, now_ms=now, for_s=3600)
    await revoke(agent.broker, wanted, by="operator:ann", now_ms=now)


async def status(house: Running, made: str, path: str = "/v1/sessions") -> tuple[int, str | None]:
    headers = {"Authorization": f"Bearer {made}"}
    async with aiohttp.ClientSession() as http, http.get(house.url + path, headers=headers) as answer:
        problem = await answer.json()
        return answer.status, problem.get("reason") or problem.get("code")


async def turned_away(house: Running, made: str) -> tuple[str, str | None, int]:
    """Say hello with a token; return the error's code and reason, and the close code."""
    async with connect(house.url) as client:
        await client.send(op="hello", token=made)
        error = await client.op("error")
        return error["code"], error.get("reason"), await client.closed()


@asynccontextmanager
async def two_houses(start: Start, **settings: Any) -> AsyncIterator[tuple[Running, Running]]:
    async with start(**(KEYS | settings)) as one, start(**(KEYS | settings)) as two:
        yield one, two


async def test_a_token_of_a_key_in_a_file_lets_in_and_another_does_not(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    path.write_text(pem(ONE))
    async with start(token_keys=str(path), dev_secret=None) as house:
        async with greeted(house.url, of(house)) as client:
            await client.open("s1")
        assert await status(house, of(house)) == (200, None)
        bad = token(key=TWO, tenant=house.tenant)
        assert await status(house, bad) == (401, "signature")
        assert await turned_away(house, bad) == ("unauthenticated", "signature", 4501)
        assert await turned_away(house, house.token()) == ("unauthenticated", "key", 4501)
        assert await turned_away(house, of(house, exp=int(time.time()) - 31)) == ("token_expired", None, 4410)


async def test_users_of_real_keys_are_in_their_own_sessions_alone(start: Start) -> None:
    async with (
        start(**(KEYS | {"dev_secret": SECRET})) as house,
        greeted(house.url, of(house, "user:ada")) as ada,
        greeted(house.url, of(house, "user:bob")) as bob,
        greeted(house.url, house.token("user:dev")) as dev,
    ):
        await ada.open("s1")
        assert (await bob.ask("open", session="s1"))["code"] == "forbidden"
        assert (await dev.ask("open", session="s1"))["op"] == "opened"


async def test_while_keys_cannot_be_had_clients_are_told_to_come_again(start: Start) -> None:
    async with issuer() as there:
        there.down = True
        trust = {"token_jwks_url": there.url, "token_issuer": ("https://id.example",), "token_audience": "fabric"}
        async with start(**trust, dev_secret=None) as house:
            made = of(house, iss="https://id.example", aud="fabric")
            assert await turned_away(house, made) == ("keys_unavailable", None, 4413)
            headers = {"Authorization": f"Bearer {made}"}
            async with aiohttp.ClientSession() as http, http.get(f"{house.url}/v1/sessions", headers=headers) as answer:
                problem = await answer.json()
                assert (answer.status, problem["code"], problem["retryable"]) == (503, "keys_unavailable", True)
                assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(("what", "name"), [("token", "t1"), ("participant", "user:ada")])
async def test_what_is_revoked_is_out_of_every_gateway(start: Start, agent: Fabric, what: Of, name: str) -> None:
    async with two_houses(start) as houses:
        made = of(houses[0], jti="t1")
        other = of(houses[0], "user:bob", jti="t2")
        async with (
            greeted(houses[0].url, made) as first,
            greeted(houses[1].url, made) as second,
            greeted(houses[1].url, other) as bystander,
        ):
            await take_back(agent, what, name)
            assert (await first.closed(), await second.closed()) == (4412, 4412)
            assert (await bystander.ask("ping"))["op"] == "pong"
        for house in houses:
            assert await status(house, made) == (401, "revoked")
            assert await turned_away(house, made) == ("unauthenticated", "revoked", 4501)
            assert (await status(house, other))[0] == 200
            new = of(house, jti="t3", iat=int(time.time()) + 1)
            assert (await status(house, new))[0] == 200


async def test_a_gateway_that_starts_later_knows_what_is_revoked(start: Start, agent: Fabric) -> None:
    await take_back(agent, "token", "t1")
    async with start(**KEYS) as house:
        assert await status(house, of(house, jti="t1")) == (401, "revoked")


async def test_for_a_revoked_session_older_tokens_count_no_more_and_newer_ones_do(start: Start, agent: Fabric) -> None:
    taken_back_at = int(time.time())
    async with two_houses(start) as (one, two):
        old = of(one, sessions={"*": ["*"]})
        new = of(one, sessions={"*": ["*"]}, iat=taken_back_at + 1)
        async with greeted(one.url, old) as first, greeted(two.url, new) as second:
            lost, kept = (await first.open("chat-42"))["sub"], (await first.open("chat-7"))["sub"]
            await second.open("chat-42")
            await first.ask("state.watch", session="chat-42")
            await take_back(agent, "session", "chat-42", at_ms=1000 * taken_back_at)
            gone = await first.op("gone")
            assert (gone["sub"], gone["code"]) == (lost, "forbidden")
            assert (await first.ask("open", session="chat-42"))["code"] == "forbidden"
            assert (await second.append("chat-42", user_message("still here")))["op"] == "appended"
            await second.ask("state.put", session="chat-42", document="plan", body={"secret": 1})
            assert (await second.append("chat-7", {"type": "app.seen"}))["op"] == "appended"
            await first.until_events(lambda events: any(e["type"] == "app.seen" for e in events))
            assert "message.user" not in {event["type"] for event in first.events}
            assert not any(isinstance(frame, dict) and frame["op"] == "state" for frame in first.frames)
            assert (await first.ask("refresh", token=new))["op"] == "ok"
            assert (await first.ask("open", session="chat-42"))["op"] == "opened"
            assert kept != lost
        assert (await status(two, old, "/v1/sessions/chat-42"))[0] == 403
        assert (await status(two, new, "/v1/sessions/chat-42"))[0] == 200


async def test_who_only_watches_documents_is_shut_out_too(start: Start, agent: Fabric) -> None:
    async with start(**KEYS) as house, greeted(house.url, of(house, sessions={"*": ["*"]})) as watcher:
        for name in ("chat-42", "chat-7"):
            await watcher.ask("state.watch", session=name)
        await take_back(agent, "session", "chat-42")
        gone = await watcher.op("gone")
        assert (gone["session"], gone["code"]) == ("chat-42", "forbidden")
        for name in ("chat-42", "chat-7"):
            await agent.session(name).state("plan").put({"of": name})
        assert (await watcher.op("state"))["session"] == "chat-7"


async def test_who_takes_part_no_more_hears_of_no_document(start: Start, agent: Fabric) -> None:
    session = agent.session("s1")
    await session.create(participants=["user:ada", "user:bob"])
    async with (
        start(**KEYS) as house,
        greeted(house.url, of(house, "user:ada")) as ada,
        greeted(house.url, of(house, "user:bob")) as bob,
    ):
        for one in (ada, bob):
            assert (await one.ask("state.watch", session="s1"))["op"] == "ok"
        await ada.ask("participant.remove", session="s1", participant="user:ada")
        assert (await ada.op("gone"))["code"] == "forbidden"
        await session.state("plan").put({"secret": 1})
        assert (await bob.op("state"))["body"] == {"secret": 1}
        assert (await ada.ask("ping"))["op"] == "pong"
        assert not any(isinstance(frame, dict) and frame["op"] == "state" for frame in ada.frames)
        assert len(house.gateway.watches) == 1
    assert len(house.gateway.watches) == 0


@pytest.mark.parametrize(("what", "name"), [("token", "t1"), ("session", "s1")])
async def test_streams_and_polls_end_too(start: Start, agent: Fabric, what: Of, name: str) -> None:
    await agent.session("s1").append({"type": "app.first"})
    async with start(**KEYS) as house, aiohttp.ClientSession(house.url) as http:
        headers = {"Authorization": f"Bearer {of(house, 'operator:eve', jti='t1')}"}
        path = "/v1/sessions/s1/events?after=tail&live="

        async def polled() -> int:
            async with http.get(f"{path}long-poll&timeout_ms=60000", headers=headers) as answer:
                return answer.status

        async with http.get(f"{path}sse", headers=headers) as stream:
            assert stream.status == 200
            await stream.content.readuntil(b"\n\n")
            polling = asyncio.create_task(polled())
            await eventually(lambda: house.gateway.hub and len(house.gateway.hub) == 1)
            await take_back(agent, what, name)
            async with asyncio.timeout(10):
                await stream.content.read()
                assert await polling in (401, 403)
        async with http.get(f"{path}sse", headers=headers) as stream:
            assert stream.status in (401, 403)


async def test_a_ticket_of_a_revoked_token_lets_nobody_in(start: Start, agent: Fabric) -> None:
    await agent.session("s1").append({"type": "app.first"})
    async with two_houses(start) as (one, two), aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {of(one, 'operator:eve', jti='t1')}"}
        async with http.post(f"{one.url}/v1/tickets", headers=headers) as answer:
            ticket = (await answer.json())["ticket"]
        await take_back(agent, "token", "t1")

        async def known() -> bool:
            return (await status(two, of(two, "operator:eve", jti="t1"))) == (401, "revoked")

        await eventually(known)
        async with http.get(f"{two.url}/v1/sessions/s1/events?live=sse&ticket={ticket}") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (401, "revoked")


async def test_whoever_a_key_has_let_in_is_out_when_the_key_is(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks(jwk("EdDSA", ONE, "k1")))
    async with start(token_keys=str(path), dev_secret=None) as house, greeted(house.url, of(house)) as old:
        path.write_text(jwks(jwk("EdDSA", ONE, "k1"), jwk("EdDSA", TWO, "k2")))
        new = token(key=TWO, kid="k2", tenant=house.tenant)

        async def known() -> bool:
            return (await status(house, new))[0] == 200

        await eventually(known)
        assert (await old.ask("ping"))["op"] == "pong"
        async with greeted(house.url, new) as client:
            path.write_text(jwks(jwk("EdDSA", TWO, "k2")))
            assert await old.closed() == 4412
            assert (await client.ask("ping"))["op"] == "pong"


async def test_a_token_is_refreshed_on_an_open_connection(start: Start) -> None:
    async with start(**KEYS) as house, greeted(house.url, of(house, exp=int(time.time()) - 28)) as client:
        assert (await client.ask("refresh", token=of(house)))["op"] == "ok"
        answer = await client.ask("refresh", token=of(house, exp=1))
        assert answer["code"] == "token_expired"
        assert await still_there(client)


async def still_there(client: Client) -> bool:
    return bool((await client.ask("ping"))["op"] == "pong")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "Nothing says who may come in"),
        ({"token_keys": "/nonexistent/keys.json"}, "cannot be read"),
        ({"token_keys": "{}"}, "SESSION_FABRIC_TOKEN_KEYS"),
        ({"token_keys": json.dumps(jwk("EdDSA", ONE) | {"d": "x"})}, "private key"),
        ({"token_jwks_url": "https://id.example/jwks"}, "--token-issuer and --token-audience"),
        ({"token_jwks_url": "https://id.example/jwks", "token_issuer": ("x",)}, "--token-audience"),
        ({"token_jwks_url": "http://id.example/jwks", "token_issuer": ("x",), "token_audience": "y"}, "https"),
        ({"token_jwks_url": "file:///etc/keys", "token_issuer": ("x",), "token_audience": "y"}, "https"),
        ({"token_jwks_url": "https://", "token_issuer": ("x",), "token_audience": "y"}, "https"),
        ({"token_jwks_url": "https://[", "token_issuer": ("x",), "token_audience": "y"}, "https"),
        ({"dev_secret": pem(ONE)}, "not a secret"),
    ],
)
def test_settings_that_would_let_in_the_wrong_people_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Settings.model_validate(settings).check()
    assert said in str(refused.value)


def test_keys_are_not_shown_with_the_settings() -> None:
    shown = repr(Settings.model_validate({"token_keys": json.dumps(jwk("EdDSA", ONE, "k1"))}))
    assert "k1" not in shown
