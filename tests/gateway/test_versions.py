"""Versions that meet at a gateway: each says which it is, and what the older one cannot do is explained."""

from __future__ import annotations

import aiohttp
from session_fabric.words.version import VERSION

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted


async def test_a_gateway_says_which_version_it_is(house: Running, http: aiohttp.ClientSession) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{house.url}/v1/ws", protocols=("session-fabric.v1",)) as socket,
    ):
        await socket.send_json({"op": "hello", "token": house.token(), "client": "from-the-future/9.9"})
        assert (await socket.receive_json())["server"] == f"session-fabric-gateway/{VERSION}"
    async with http.get("/readyz") as response:
        assert (await response.json())["version"] == VERSION


async def test_what_a_newer_client_wants_is_refused_with_the_gateways_version_and_it_goes_on(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        for wanted in ({"op": "teleport"}, {"op": "open", "session": "s1", "compress": "zstd"}):
            refused = await client.ask(**wanted)
            assert refused["code"] == "invalid_request"
            assert f"This gateway is {VERSION}" in refused["hint"]
            assert wanted["op"] in refused["message"] or "compress" in refused["message"]
        assert (await client.open("s1"))["session"]["session"] == "s1"


async def test_the_gateway_is_among_the_processes_that_live(house: Running) -> None:
    found = {process.holder: process for process in await house.gateway.fabric.processes()}
    mine = found[house.gateway.fabric.broker.holder]
    assert (mine.kind, mine.version, mine.skew) == ("gateway", VERSION, "same")
