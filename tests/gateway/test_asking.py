"""What runs ask of participants, through the gateway: on the socket and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from session_fabric import Approval, Fabric, Run

from tests.gateway.conftest import SECRET, Running
from tests.gateway.processes import gateway_process
from tests.gateway.sockets import Client, Frame, greeted
from tests.support.waiting import eventually

Work = Callable[[Run], Awaitable[Any]]


@asynccontextmanager
async def asking(agent: Fabric, ask: Work) -> AsyncIterator[asyncio.Task[Any]]:
    """Have a run ask; the task's result is what came of it."""
    session = agent.session("s1")
    await session.create()

    async def work() -> Any:
        async with session.run("r1") as run:
            return await ask(run)

    task = asyncio.create_task(work())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def select(run: Run) -> Awaitable[Any]:
    return run.client_tool("read_selection", {"format": "text"})


def approve(run: Run) -> Awaitable[Approval]:
    return run.approve("Sure?")


async def the_one(client: Client) -> Frame:
    async def one() -> Frame | None:
        answer = await client.ask("requests", session="s1")
        assert answer["op"] == "requests", answer
        found: list[Frame] = answer["requests"]
        return found[0] if found else None

    return await eventually(one)


async def test_a_page_hears_of_a_tool_claims_it_and_answers_it(house: Running, agent: Fabric) -> None:
    async with asking(agent, select) as run, greeted(house.url, house.token(), device="d1") as ada:
        await ada.open("s1")
        events = await ada.until_events(lambda seen: any(e["type"] == "tool.requested" for e in seen))
        asked = next(e for e in events if e["type"] == "tool.requested")
        request = asked["body"]["request"]
        listed = await the_one(ada)
        assert listed == {
            "request": request,
            "kind": "tool",
            "run": "r1",
            "tool": "read_selection",
            "args": {"format": "text"},
            "call": request,
            "to": None,
            "offset": asked["offset"],
            "asked": asked["ts"],
            "deadline": None,
            "claimed": None,
        }
        claimed = await ada.ask("claim", session="s1", request=request)
        assert claimed["op"] == "claimed"
        claim = {"by": "user:ada", "device": "d1", "until": claimed["until"]}
        assert (await the_one(ada))["claimed"] == claim
        async with greeted(house.url, house.token("user:bob"), device="d2") as bob:
            refused = await bob.ask("claim", session="s1", request=request)
            assert (refused["op"], refused["code"], refused["by"]) == ("error", "already_claimed", "user:ada")
            assert refused["until"] == claimed["until"]
        answered = await ada.ask("answer", session="s1", request=request, body={"text": "chosen"})
        assert (answered["op"], answered["duplicate"]) == ("answered", False)
        assert await run == {"text": "chosen"}
        events = await ada.until_events(lambda seen: any(e["type"] == "tool.answered" for e in seen))
        told = next(e for e in events if e["type"] == "tool.answered")
        assert (told["offset"], told["actor"], told["body"]["device"]) == (answered["offset"], "user:ada", "d1")


async def test_the_second_of_two_pages_is_told_who_was_first(house: Running, agent: Fabric) -> None:
    async with asking(agent, approve) as run, greeted(house.url, house.token("user:ada")) as ada:
        request = (await the_one(ada))["request"]
        first = await ada.ask("answer", session="s1", request=request, body={"approved": True})
        async with greeted(house.url, house.token("user:bob")) as bob:
            second = await bob.ask("answer", session="s1", request=request, body={"approved": False})
        assert (second["op"], second["code"], second["by"]) == ("error", "already_answered", "user:ada")
        assert second["offset"] == first["offset"]
        again = await ada.ask("answer", session="s1", request=request, body={"approved": True})
        assert (again["offset"], again["duplicate"]) == (first["offset"], True)
        assert await run == Approval(True, "user:ada", None, False)


async def test_null_is_a_result_and_nothing_is_none(house: Running, agent: Fabric) -> None:
    async with asking(agent, select) as run, greeted(house.url, house.token()) as ada:
        request = (await the_one(ada))["request"]
        refused = await ada.ask("answer", session="s1", request=request)
        assert (refused["code"], refused["message"]) == ("invalid_request", "An answer is either a body or an error.")
        assert (await ada.ask("answer", session="s1", request=request, body=None))["op"] == "answered"
        assert await run is None


async def test_a_request_for_one_device_is_answered_by_that_connection_alone(house: Running, agent: Fabric) -> None:
    to = {"participant": "user:ada", "device": "d1"}
    async with asking(agent, lambda run: run.approve("Sure?", to=to)) as run:
        async with greeted(house.url, house.token(), device="d2") as other:
            request = (await the_one(other))["request"]
            refused = await other.ask("answer", session="s1", request=request, body={"approved": True})
            assert (refused["code"], refused["to"]) == ("forbidden", to)
            named = await other.ask("answer", session="s1", request=request, body={"approved": True}, device="d1")
            assert (named["code"], named["field"]) == ("invalid_request", "device")
        async with greeted(house.url, house.token(), device="d1") as right:
            assert (await right.ask("answer", session="s1", request=request, body={"approved": True}))[
                "op"
            ] == "answered"
        assert (await run).approved


async def test_a_page_that_was_loaded_again_answers_what_it_was_asked_before(house: Running, agent: Fabric) -> None:
    async with asking(agent, approve) as run:
        async with greeted(house.url, house.token()) as before:
            request = (await the_one(before))["request"]
        async with greeted(house.url, house.token()) as after:
            assert (await the_one(after))["request"] == request
            await after.ask("answer", session="s1", request=request, body={"approved": True})
        assert (await run).approved


async def test_a_request_outlives_the_gateway(broker_url: str, house: Running, agent: Fabric, tmp_path: Path) -> None:
    options = ("--dev-secret", SECRET)
    async with asking(agent, approve) as run:
        async with gateway_process(broker_url, tmp_path, *options) as one, greeted(one.url, house.token()) as ada:
            request = (await the_one(ada))["request"]
            one.process.kill()
            await one.ended()
        async with gateway_process(broker_url, tmp_path, *options) as two, greeted(two.url, house.token()) as ada:
            assert (await the_one(ada))["request"] == request
            assert (await ada.ask("answer", session="s1", request=request, body={"approved": True}))["op"] == "answered"
        assert (await run).approved


# --- over HTTP ------------------------------------------------------------------------------------------

REQUESTS = "/v1/sessions/s1/requests"


async def open_over(http: aiohttp.ClientSession) -> Frame:
    async def one() -> Frame | None:
        async with http.get(REQUESTS) as response:
            assert response.status == 200
            found: list[Frame] = (await response.json())["requests"]
            return found[0] if found else None

    return await eventually(one)


async def test_over_http_requests_are_listed_claimed_and_answered(agent: Fabric, http: aiohttp.ClientSession) -> None:
    async with asking(agent, select) as run:
        request = (await open_over(http))["request"]
        async with http.post(f"{REQUESTS}/{request}/claim", json={"device": "d1"}) as response:
            until = (await response.json())["until"]
        assert (await open_over(http))["claimed"] == {"by": "user:ada", "device": "d1", "until": until}
        async with http.post(f"{REQUESTS}/{request}/answer", json={"body": 1, "device": "d2"}) as response:
            problem = await response.json()
            assert (response.status, problem["code"], problem["device"]) == (409, "already_claimed", "d1")
        answer = {"error": "Nothing is selected.", "device": "d1", "event": "a1"}
        for duplicate in (False, True):
            async with http.post(f"{REQUESTS}/{request}/answer", json=answer) as response:
                assert response.status == 200
                assert (await response.json())["duplicate"] is duplicate
        async with http.post(f"{REQUESTS}/{request}/answer", json={"body": 1, "device": "d2"}) as response:
            problem = await response.json()
            assert (response.status, problem["code"], problem["by"]) == (409, "already_answered", "user:ada")
        with pytest.raises(Exception, match="answered with an error"):
            await run


async def test_over_http_what_cannot_be_answered_is_said(agent: Fabric, http: aiohttp.ClientSession) -> None:
    async def over(run: Run) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run.approve("Sure?")

    async with http.get(REQUESTS) as response:
        assert (response.status, (await response.json())["code"]) == (404, "session_not_found")
    async with asking(agent, over) as run:
        request = (await open_over(http))["request"]
        async with http.post(f"{REQUESTS}/{request}/answer", json={"body": {"approved": "yes"}}) as response:
            assert (response.status, (await response.json())["code"]) == (400, "invalid_request")
        async with http.post(f"{REQUESTS}/{request}/answer", json={"body": "x" * 300_000}) as response:
            problem = await response.json()
            assert (response.status, problem["code"], problem["limit"]) == (413, "too_large", 262_144)
        await run
    async with http.post(f"{REQUESTS}/{request}/answer", json={"body": {"approved": True}}) as response:
        problem = await response.json()
        assert (response.status, problem["code"]) == (409, "request_closed")
        assert (problem["outcome"], problem["reason"]) == ("input.expired", "run_ended")
    async with http.post(f"{REQUESTS}/nothing/claim") as response:
        assert (response.status, (await response.json())["code"]) == (404, "request_not_found")
