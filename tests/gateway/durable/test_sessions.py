"""A session's log, and a run, read as durable streams."""

from __future__ import annotations

import asyncio
import json

import aiohttp
from session_fabric import Fabric

from tests.gateway.conftest import Running


async def _written(agent: Fabric, name: str) -> str:
    session = agent.session(name)
    await session.append({"type": "message.user", "message": {"id": "m1", "role": "user", "content": "Hello"}})
    async with session.run() as run:
        await run.text("Good day.")
    return run.id


async def test_a_run_is_a_stream_that_ends_with_the_run(
    house: Running, agent: Fabric, http: aiohttp.ClientSession
) -> None:
    run = await _written(agent, "of-a-run")
    headers = {"Authorization": f"Bearer {house.token('agent:reader')}"}
    async with http.get(f"/v1/sessions/of-a-run/runs/{run}/stream", headers=headers) as answer:
        assert answer.status == 200
        events = await answer.json()
        assert answer.headers["Stream-Closed"] == "true"
        end = answer.headers["Stream-Next-Offset"]
    assert {event["run"] for event in events} == {run}
    assert events[-1]["body"]["type"] == "RUN_FINISHED"
    url = f"/v1/sessions/of-a-run/runs/{run}/stream?offset={end}&live=long-poll"
    async with http.get(url, headers=headers) as answer:
        assert answer.status == 204
        assert answer.headers["Stream-Closed"] == "true"


async def test_a_run_that_never_was_is_not_found(house: Running, agent: Fabric, http: aiohttp.ClientSession) -> None:
    await _written(agent, "without")
    headers = {"Authorization": f"Bearer {house.token('agent:reader')}"}
    async with http.get("/v1/sessions/without/runs/nobody/stream", headers=headers) as answer:
        assert answer.status == 404
        assert (await answer.json())["code"] == "not_found"


async def test_a_session_is_a_stream_whose_offsets_are_the_sessions_own(
    house: Running, agent: Fabric, http: aiohttp.ClientSession
) -> None:
    await _written(agent, "whole")
    headers = {"Authorization": f"Bearer {house.token('agent:reader')}"}
    async with http.get("/v1/sessions/whole/stream", headers=headers) as answer:
        events, head = await answer.json(), answer.headers["Stream-Next-Offset"]
        assert "Stream-Closed" not in answer.headers
    assert head == str(await agent.session("whole").head())
    async with http.get("/v1/sessions/whole/events?limit=1000", headers=headers) as answer:
        assert (await answer.json())["events"] == events


async def test_who_reads_a_session_as_a_stream_hears_what_comes(
    house: Running, agent: Fabric, http: aiohttp.ClientSession
) -> None:
    await _written(agent, "live")
    headers = {"Authorization": f"Bearer {house.token('agent:reader')}"}
    async with http.get("/v1/sessions/live/stream?offset=now&live=sse", headers=headers) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        async with asyncio.timeout(20):
            while b"upToDate" not in await answer.content.readline():
                pass
            await agent.session("live").append({"type": "CUSTOM", "name": "x", "value": 1})
            while not (line := await answer.content.readline()).startswith(b"data:["):
                pass
    assert json.loads(line[len(b"data:") :])[0]["body"]["type"] == "CUSTOM"
