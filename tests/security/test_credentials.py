"""Tickets, cookies and tokens: another tenant's, used up, revoked, ended, and such as claim too much."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import Of, revocation

from tests.gateway.tokens.signing import claims, private_key, sign
from tests.security.attacks import runs
from tests.security.scene import KEY, Attacker, Scene


async def ticket(mal: Attacker) -> str:
    return str((await mal.http("POST", "/v1/tickets")).json["ticket"])


@runs("T1")
async def test_a_ticket_is_its_tokens_and_is_taken_once(scene: Scene) -> None:
    mal = scene.attacker(sessions={"mine": ["read", "create"]})
    eve = scene.attacker("operator:mal")
    await mal.http("POST", "/v1/sessions", {"session": "mine"})
    for who, session, status, code in (
        (mal, "hidden", 403, "forbidden"),
        (mal, "vault", 403, "forbidden"),
        (eve, "vault", 404, "session_not_found"),
    ):
        given = await ticket(who)
        path = f"/v1/sessions/{session}/events?live=sse&ticket={given}"
        reply = await mal.http("GET", path, auth=False, until=b"\n\n")
        assert (reply.status, reply.code) == (status, code), session
        # It has been used up, for that session and for his own.
        for again in (path, f"/v1/sessions/mine/events?live=sse&ticket={given}"):
            reply = await mal.http("GET", again, auth=False, until=b"\n\n")
            assert (reply.status, reply.code) == (401, "unauthenticated")
    given = await ticket(mal)
    for path, headers in (
        ("/v1/sessions/mine/events", {"Authorization": f"Bearer {given}"}),
        ("/v1/sessions/mine", {"Authorization": f"Bearer {given}"}),
        (f"/v1/sessions/mine/events?ticket={given}", {}),
        (f"/v1/sessions/mine/messages?ticket={given}", {}),
        (f"/v1/tickets?ticket={given}", {}),
    ):
        method = "POST" if "tickets" in path else "GET"
        reply = await mal.http(method, path, auth=False, **headers)
        assert (reply.status, reply.code) == (401, "unauthenticated"), path
    for guess in (given[:-1], given + "=", "*", "%3E", ".", given.swapcase()):
        reply = await mal.http("GET", f"/v1/sessions/mine/events?live=sse&ticket={guess}", auth=False, until=b"\n\n")
        assert (reply.status, reply.code) == (401, "unauthenticated"), guess
    reply = await mal.http("GET", f"/v1/sessions/mine/events?live=sse&ticket={given}", auth=False, until=b"created")
    assert reply.status == 200


@runs("T2")
async def test_a_cookie_counts_for_its_tenant_and_from_pages_of_ours_alone(scene: Scene) -> None:
    mal = scene.attacker("operator:mal")
    cookie = {"Cookie": f"sf={mal.token}"}
    path = "/v1/sessions/vault/events"
    for headers, status, code in (
        ({"Origin": "https://evil.example"}, 403, "forbidden"),
        ({"Origin": "null"}, 403, "forbidden"),
        ({}, 401, "unauthenticated"),
        ({"Sec_Fetch_Site": "cross-site"}, 401, "unauthenticated"),
        ({"Sec_Fetch_Site": "same-origin"}, 404, "session_not_found"),
        ({"Origin": scene.house.url}, 404, "session_not_found"),
    ):
        reply = await mal.http("GET", path, auth=False, **cookie, **headers)
        assert (reply.status, reply.code) == (status, code), headers
    # A victim's cookie beside his token, and the other way round: a header that is there is the one that counts.
    vera = scene.token("user:vera", tenant=scene.theirs.tenant)
    reply = await mal.http("GET", path, Cookie=f"sf={vera}", Sec_Fetch_Site="same-origin")
    assert (reply.status, reply.code) == (404, "session_not_found")


def variants(scene: Scene) -> list[dict[str, Any]]:
    own, other = scene.own, scene.theirs.tenant
    return [
        *({"tenant": value} for value in ([other], [own, other], {"a": other}, 1, True, "", "*", ">", None)),
        {"tenant": f"{own},{other}"},
        *({"tenant": value} for value in (f"{own}.*", f"{own} ", f"{other}\x00", f"{other}.vault", "=2E", "x" * 65)),
        *({"sub": value} for value in (["user:vera"], {"a": "user:vera"}, 7, "", "vera", "user:", "user:*")),
        {"sub": "root:vera"},
        *({"sub": value} for value in ("USER:vera", "user :vera", "user:a b", "user:>", "operator", ":vera", None)),
        *({"role": value} for value in ("operator", ["user"], {"user": 1}, "User", 0, "")),
        *({"sessions": value} for value in ([], {}, "*", ["*"], {"*": "*"}, {"*": {"read": 1}}, {"*": []}, 7, None)),
        *({"sessions": {value: ["*"]}} for value in (">", "a.*", "**", "", "vau*lt", "[a-z]", "vault*x", "*.vault")),
        *({"sessions": {"*": [value]}} for value in ("raed", "", 7, ["read"], "state:>", "state:", "control:", "READ")),
        *({"exp": value} for value in ("never", [9], 10**18, None)),
    ]  # fmt: skip


@runs("K1")
async def test_claims_that_are_of_another_kind_let_nobody_in(scene: Scene) -> None:
    mal = scene.attacker()
    for odd in variants(scene):
        now = int(time.time())
        said = {"sub": "user:mal", "tenant": scene.own, "iat": now - 60, "exp": now + 600} | odd
        one = Attacker(scene.house, sign(said, key=KEY), mal.received)
        for path in ("/v1/sessions/vault/events", "/v1/sessions/hidden/events"):
            reply = await one.http("GET", path)
            assert (reply.status, reply.code) == (401, "unauthenticated"), odd
    for nested in ({"tenants": [scene.theirs.tenant]}, {"claims": {"tenant": scene.theirs.tenant}}, {"admin": True}):
        one = Attacker(scene.house, scene.token(**nested), mal.received)
        assert (await one.http("GET", "/v1/sessions/vault/events")).code == "session_not_found", nested
        assert (await one.http("GET", "/v1/sessions/hidden/events")).code == "forbidden", nested


@runs("K2")
async def test_who_looks_like_somebody_else_is_nobody_or_himself(scene: Scene) -> None:
    mal, other = scene.attacker(), scene.theirs.tenant
    for tenant in (
        other.replace(other[1], "\u0430", 1),
        other + "\u200b",
        "\ufeff" + other,
        other[0] + "\u0301" + other[1:],
    ):
        one = Attacker(scene.house, scene.token(tenant=tenant), mal.received)
        reply = await one.http("GET", "/v1/sessions/vault/events")
        assert (reply.status, reply.code) == (401, "unauthenticated"), tenant
    for tenant in (other.swapcase(), other + "-", other[:-1], f"{other}-vault"):
        one = Attacker(scene.house, scene.token(tenant=tenant), mal.received)
        assert (await one.http("GET", "/v1/sessions/vault/events")).code == "session_not_found"
    for who in (
        "user:Vera",
        "user:v\u0435ra",
        "user:vera\u200b",
        "user:ver\u0061\u0301",
        "user:user:vera",
        "user:vera=00",
    ):
        one = Attacker(scene.house, scene.token(who), mal.received)
        assert (await one.http("GET", "/v1/sessions/hidden/events")).code in ("forbidden", "unauthenticated"), who
    for key in (private_key("EdDSA", 72), private_key("ES256", 71)):
        algorithm = "ES256" if key is private_key("ES256", 71) else "EdDSA"
        forged = sign(claims(sub="user:vera", tenant=other), algorithm, key)
        one = Attacker(scene.house, forged, mal.received)
        assert (await one.http("GET", "/v1/sessions/vault/events")).code == "unauthenticated"


@runs("K3")
@pytest.mark.parametrize(("what", "code"), [("token", 4412), ("participant", 4412), ("end", 4410)])
async def test_who_has_no_token_any_more_hears_nothing_more(scene: Scene, what: str, code: int) -> None:
    # A gateway gives clocks 30 s: this one ends in a moment.
    ends = {"exp": int(time.time()) - 28} if what == "end" else {}
    mal = scene.attacker(jti="t-mal", **ends)
    session = scene.session("between", "operator:eve")
    await session.create(participants=["user:mal"])
    begun = asyncio.Event()

    async def streamed() -> bytes:
        begun.set()
        return (await mal.http("GET", "/v1/sessions/between/events?live=sse", until=b"never said")).body

    async with mal.socket() as client, asyncio.TaskGroup() as group:
        await client.open("between")
        await client.op("live")
        stream = group.create_task(streamed())
        await begun.wait()
        if what != "end":
            now = time.time_ns() // 1_000_000
            name = "t-mal" if what == "token" else "user:mal"
            of: Of = "token" if what == "token" else "participant"
            taken = revocation(scene.own, of, name, now_ms=now, for_s=3600)
            await revoke(scene.fabric.broker, taken, by="operator:ann", now_ms=now)
        assert await client.closed() == code
        await session.append({"type": "app.after", "text": scene.hidden.word})
        await stream
    for path in ("/v1/sessions/between/events", "/v1/sessions"):
        assert (await mal.http("GET", path)).status == 401


@runs("K4")
async def test_a_connection_stays_who_it_is(scene: Scene) -> None:
    mal = scene.attacker()
    others = [
        scene.token("user:vera"),
        scene.token("operator:mal"),
        scene.token("user:mal", tenant=scene.theirs.tenant),
        scene.token("user:vera", tenant=scene.theirs.tenant),
    ]
    async with mal.socket() as client:
        for made in others:
            assert (await mal.http("POST", "/v1/refresh", {"token": made})).code == "forbidden"
            assert (await client.ask("refresh", token=made))["code"] == "forbidden"
            assert (await client.ask("open", session="hidden"))["code"] == "forbidden"
            assert (await client.ask("state.get", session="vault", document="plan"))["code"] == "session_not_found"
        for made in ("", "x", None):
            assert (await client.ask("refresh", token=made))["code"] in ("unauthenticated", "invalid_request")
