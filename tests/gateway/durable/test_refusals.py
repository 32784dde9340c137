"""What the protocol leaves to us: too large, too much, no broker. What was accepted is there, and once."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from typing import Any

import aiohttp

from tests.gateway.conftest import Running, Start
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

_JSON = {"Content-Type": "application/json"}
_MOST = 8 * 1024 * 1024


def _client(house: Running) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {house.token('service:writer', sessions={'/*': ['*']})}"} | _JSON
    return aiohttp.ClientSession(house.url, headers=headers)


async def _all(http: aiohttp.ClientSession, path: str) -> list[Any]:
    found: list[Any] = []
    offset = "-1"
    while True:
        async with http.get(f"/v1/stream/{path}", params={"offset": offset}) as answer:
            assert answer.status == 200, await answer.text()
            found += await answer.json()
            offset = answer.headers["Stream-Next-Offset"]
            if answer.headers.get("Stream-Up-To-Date") == "true":
                return found


async def test_what_is_too_large_is_refused_with_the_limit_and_nothing_of_it_is_stored(house: Running) -> None:
    async with _client(house) as http:
        async with http.put("/v1/stream/large") as answer:
            assert answer.status == 201
        # Just over the limit, and over what is read at all.
        for (method, path), over in itertools.product((("POST", "large"), ("PUT", "larger")), (1, 1 << 20)):
            async with http.request(
                method, f"/v1/stream/{path}", data=io.BytesIO(b'"' + b"x" * (_MOST - 2 + over) + b'"')
            ) as answer:
                problem = await answer.json()
            assert (answer.status, problem["code"], problem["limit"]) == (413, "too_large", _MOST)
        async with http.post("/v1/stream/large", data=io.BytesIO(b'"' + b"x" * (_MOST - 2) + b'"')) as answer:
            assert answer.status == 204
        assert [len(entry) for entry in await _all(http, "large")] == [_MOST - 2]
        async with http.get("/v1/stream/larger") as answer:
            assert answer.status == 404


async def test_too_much_is_refused_with_when_to_come_back_and_what_was_accepted_is_there_once(start: Start) -> None:
    async with start(limit=["program.appends=20/5"]) as house, _client(house) as http:
        async with http.put("/v1/stream/many") as answer:
            assert answer.status == 201
        accepted, refused = [], 0
        for number in range(30):
            async with http.post("/v1/stream/many", data=json.dumps(number)) as answer:
                if answer.status == 204:
                    accepted.append(number)
                    continue
                assert answer.status == 429
                assert int(answer.headers["Retry-After"]) >= 1
                assert (await answer.json())["code"] == "rate_limited"
                refused += 1
        assert refused > 0
        assert await _all(http, "many") == accepted


async def test_without_a_broker_it_is_503_and_no_accepted_append_is_lost(start: Start, own_server: NatsNode) -> None:
    async with start(nats=own_server.url) as house, _client(house) as http:
        async with http.put("/v1/stream/away") as answer:
            assert answer.status == 201
        accepted: list[int] = []
        unsure: list[int] = []
        down, up = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            number = 0
            while not (up.is_set() and accepted and accepted[-1] > (unsure or [0])[-1]):
                async with http.post("/v1/stream/away", data=json.dumps(number)) as answer:
                    if answer.status == 204:
                        accepted.append(number)
                    else:
                        assert answer.status == 503, await answer.text()
                        problem = await answer.json()
                        assert problem["retryable"] is True
                        assert "Retry-After" in answer.headers
                        unsure.append(number)
                        down.set()
                number += 1

        writing = asyncio.create_task(write())
        await eventually(lambda: len(accepted) >= 20)
        own_server.kill()
        async with asyncio.timeout(30):
            await down.wait()
        async with http.get("/v1/stream/away", params={"offset": "-1"}) as answer:
            assert answer.status == 503
        await own_server.restart()
        up.set()
        async with asyncio.timeout(60):
            await writing
        found = await _all(http, "away")
        assert [number for number in found if number in accepted] == accepted
        assert len(set(found)) == len(found)
        assert set(found) <= {*accepted, *unsure}


async def test_a_producer_sends_again_what_was_not_answered_and_it_is_stored_once(
    start: Start, own_server: NatsNode
) -> None:
    async with start(nats=own_server.url) as house, _client(house) as http:
        async with http.put("/v1/stream/again") as answer:
            assert answer.status == 201
        for number in range(40):
            headers = {"Producer-Id": "writer", "Producer-Epoch": "0", "Producer-Seq": str(number)}
            if number == 20:
                own_server.kill()
                restarted = asyncio.create_task(own_server.restart())
            while True:
                async with http.post("/v1/stream/again", data=json.dumps(number), headers=headers) as answer:
                    if answer.status in (200, 204):
                        break
                    assert answer.status == 503, await answer.text()
                await asyncio.sleep(0.05)
        await restarted
        assert await _all(http, "again") == list(range(40))
