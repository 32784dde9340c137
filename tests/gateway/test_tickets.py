"""Tickets: a token's stand-in in a URL, taken once, by whichever gateway is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from session_fabric import Fabric

from tests.gateway.conftest import Running, Start


async def ticket(house: Running, who: str = "user:ada", **claims: Any) -> str:
    headers = {"Authorization": f"Bearer {house.token(who, **claims)}"}
    async with aiohttp.ClientSession() as http, http.post(f"{house.url}/v1/tickets", headers=headers) as answer:
        assert answer.status == 201
        return str((await answer.json())["ticket"])


async def status(house: Running, query: str, session: str = "s1") -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"{house.url}/v1/sessions/{session}/events?{query}") as answer:
        return answer.status, "" if answer.status == 200 else (await answer.json())["code"]


async def test_a_ticket_opens_a_stream_once_through_any_gateway(house: Running, start: Start, agent: Fabric) -> None:
    await agent.session("s1").create()
    async with start() as other:
        given = await ticket(house)
        assert await status(other, f"live=sse&ticket={given}") == (200, "")
        for again in (house, other):
            assert await status(again, f"live=sse&ticket={given}") == (401, "unauthenticated")


async def test_of_many_who_use_a_ticket_at_once_one_gets_in(house: Running, agent: Fabric) -> None:
    await agent.session("s1").create()
    given = await ticket(house)
    answers = await asyncio.gather(*(status(house, f"live=sse&ticket={given}") for _ in range(10)))
    assert sorted(code for code, _ in answers) == [200] + [401] * 9


async def test_a_ticket_grants_what_its_token_does(house: Running, agent: Fabric) -> None:
    for name in ("mine", "others"):
        await agent.session(name).create()
    only = {"sessions": {"mine": ["read"]}}
    assert await status(house, f"live=sse&ticket={await ticket(house, **only)}", "mine") == (200, "")
    assert await status(house, f"live=sse&ticket={await ticket(house, **only)}", "others") == (403, "forbidden")


async def test_a_stream_by_ticket_ends_with_the_token(house: Running, agent: Fabric) -> None:
    await agent.session("s1").create()
    given = await ticket(house, expires_in_s=1.5)
    url = f"{house.url}/v1/sessions/s1/events?live=sse&ticket={given}"
    async with asyncio.timeout(10), aiohttp.ClientSession() as http, http.get(url) as answer:
        assert answer.status == 200
        await answer.read()


async def test_a_ticket_is_for_streams_alone_and_nothing_else_is_one(house: Running, agent: Fabric) -> None:
    await agent.session("s1").create()
    given = await ticket(house)
    assert await status(house, f"ticket={given}") == (401, "unauthenticated")
    assert await status(house, f"live=long-poll&ticket={given}") == (401, "unauthenticated")
    for none in ("", "x", "%00", given[:-1]):
        assert await status(house, f"live=sse&ticket={none}") == (401, "unauthenticated")
    assert await status(house, f"live=sse&ticket={given}") == (200, "")
    async with aiohttp.ClientSession() as http, http.post(f"{house.url}/v1/tickets") as answer:
        assert answer.status == 401


async def test_the_broker_never_has_a_ticket(house: Running, agent: Fabric) -> None:
    given = await ticket(house)
    entries = await agent.broker.bucket("sf-tickets").entries()
    assert any(house.tenant.encode() in (entry.value or b"") for entry in entries)
    assert given not in str(entries)
