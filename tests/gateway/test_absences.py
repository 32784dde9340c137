"""What pages are told of agents whose connection has ended."""

from __future__ import annotations

import aiohttp
from session_fabric import Absence, Fabric
from session_fabric.words.subjects import Place

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted
from tests.support.waiting import eventually

AWAY = Absence("r1", "agent:writer", connected=False)


def tell(house: Running, *, connected: bool, run: str = "r1") -> None:
    """Have the gateway find that an agent is away, or back."""
    place = Place(house.tenant, "s1")
    house.gateway.fabric._shared.absences.tell([(place, AWAY._replace(run=run))], connected=connected)


async def test_all_who_look_on_are_told_that_an_agent_is_away_and_that_it_is_back(
    house: Running, agent: Fabric
) -> None:
    await agent.session("s1").create()
    async with greeted(house.url, house.token()) as ada, greeted(house.url, house.token("user:bob")) as bob:
        subs = [(await client.open("s1", view=view))["sub"] for client, view in ((ada, "full"), (bob, "messages"))]
        for client in (ada, bob):
            await client.op("live")
        for connected in (False, True):
            tell(house, connected=connected)
            for client, sub in zip((ada, bob), subs, strict=True):
                frame = await client.op("agent")
                assert frame == {"op": "agent", "sub": sub, **AWAY._replace(connected=connected)._asdict()}


async def test_who_comes_while_an_agent_is_away_is_told_when_he_is_live(house: Running, agent: Fabric) -> None:
    await agent.session("s1").create()
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        await ada.op("live")
        tell(house, connected=False)
        async with greeted(house.url, house.token("user:bob")) as bob:
            await bob.open("s1")
            frames = [await bob.next() for _ in range(4)]
            assert [frame["op"] for frame in frames] == ["events", "live", "mark", "agent"]
            assert (frames[-1]["run"], frames[-1]["connected"]) == ("r1", False)


async def test_what_the_log_says_of_a_run_ends_what_was_told_of_its_agent(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        await ada.op("live")
        tell(house, connected=False)
        tell(house, connected=False, run="r2")
        async with agent.session("s1").run("r1"):
            await ada.until_events(lambda events: bool(events) and events[-1]["type"] == "RUN_STARTED")
        async with greeted(house.url, house.token("user:bob")) as bob:
            await bob.open("s1")
            assert (await bob.op("agent"))["run"] == "r2"
            assert not any(frame.get("run") == "r1" for frame in bob.frames if frame["op"] == "agent")


async def test_a_stream_of_server_sent_events_tells_it_too(
    house: Running, http: aiohttp.ClientSession, agent: Fabric
) -> None:
    await agent.session("s1").create()
    async with http.get("/v1/sessions/s1/events", params={"after": "tail", "live": "sse"}) as response:
        assert (await response.content.readuntil(b"\n\n")).startswith(b"retry:")
        tell(house, connected=False)
        block = b""
        while b"event: agent" not in block:
            block = await response.content.readuntil(b"\n\n")
        assert b'"run":"r1","agent":"agent:writer","connected":false' in block


async def test_a_gateway_knows_whose_a_run_is_by_what_its_pages_hear(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1", after="tail")
        await ada.op("live")
        absences, holder = house.gateway.fabric._shared.absences, agent.broker.holder
        async with agent.session("s1").run("r1"):
            await ada.until_events(lambda events: bool(events) and events[-1]["type"] == "RUN_STARTED")
            assert absences.known_of(holder) == [(Place(house.tenant, "s1"), AWAY)]
        await eventually(lambda: absences.known_of(holder) == [])
