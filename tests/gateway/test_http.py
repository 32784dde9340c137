"""The HTTP face: sessions, events, pages, long polls, streams, and problems."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt
import pytest
from session_fabric import Fabric
from session_fabric.words.version import VERSION
from session_fabric_gateway.rota import Rota

from tests.gateway.conftest import SECRET, Running, Start
from tests.gateway.sockets import connect, user_message
from tests.support.waiting import eventually

Json = dict[str, Any]


async def get(http: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with http.get(path) as response:
        value = await response.json(content_type=None)
        assert response.status == status, value
        return value


async def post(http: aiohttp.ClientSession, path: str, body: Any, status: int = 201) -> Json:
    async with http.post(path, json=body) as response:
        value: Json = await response.json(content_type=None)
        assert response.status == status, value
        return value


async def append(http: aiohttp.ClientSession, number: int, session: str = "s1") -> str:
    event = {"id": f"e{number}", "body": {"type": "app.n", "n": number}}
    return str((await post(http, f"/v1/sessions/{session}/events", event))["offset"])


def may_erase(house: Running) -> dict[str, str]:
    token = house.token("service:shop", sessions={"*": ["erase"]})
    return {"Authorization": f"Bearer {token}"}


async def test_a_session_is_made_found_listed_and_deleted(house: Running, http: aiohttp.ClientSession) -> None:
    made = await post(http, "/v1/sessions", {"session": "s1", "labels": {"team": "a"}})
    assert (made["session"], made["labels"], made["state"]) == ("s1", {"team": "a"}, "open")
    assert (await post(http, "/v1/sessions", {"session": "s1"}, 200))["created"] == made["created"]
    named = await post(http, "/v1/sessions", {})
    page = await get(http, "/v1/sessions?limit=1")
    assert [record["session"] for record in page["sessions"]] == [named["session"]]
    rest = await get(http, f"/v1/sessions?limit=1&cursor={page['next']}")
    assert [record["session"] for record in rest["sessions"]] == ["s1"]
    async with http.delete("/v1/sessions/s1") as response:
        assert (response.status, (await response.json())["operation"]) == (403, "erase")
    async with http.delete("/v1/sessions/s1", headers=may_erase(house)) as response:
        assert (response.status, await response.read()) == (204, b"")
    assert (await get(http, "/v1/sessions/s1", 404))["code"] == "session_not_found"


async def test_a_newer_token_is_proved_to_be_of_the_same_participant(
    house: Running, http: aiohttp.ClientSession, tenant: str
) -> None:
    async with http.post("/v1/refresh", json={"token": house.token()}) as response:
        assert (response.status, await response.read()) == (204, b"")
    for token in (house.token("user:eve"), house.token(tenant=f"{tenant}-2")):
        assert (await post(http, "/v1/refresh", {"token": token}, 403))["code"] == "forbidden"
    assert (await post(http, "/v1/refresh", {"token": "nonsense"}, 401))["code"] == "unauthenticated"
    ended = house.token(expires_in_s=-60)
    assert (await post(http, "/v1/refresh", {"token": ended}, 401))["code"] == "token_expired"


async def test_an_event_is_stored_once_for_its_id(http: aiohttp.ClientSession) -> None:
    event = {"id": "e1", "body": user_message("x")}
    first = await post(http, "/v1/sessions/s1/events", event, 201)
    assert await post(http, "/v1/sessions/s1/events", event, 200) == {"offset": first["offset"], "duplicate": True}
    other = await post(http, "/v1/sessions/s1/events", {"id": "e1", "body": user_message("y")}, 409)
    assert (other["code"], other["offset"]) == ("id_conflict", first["offset"])
    late = await post(http, "/v1/sessions/s1/events", {**event, "since": first["offset"]}, 200)
    assert late["duplicate"] or late["offset"] == first["offset"]


async def test_events_are_read_in_pages_that_join(http: aiohttp.ClientSession) -> None:
    for number in range(10):
        await append(http, number)
    after, seen = "start", []
    while True:
        page = await get(http, f"/v1/sessions/s1/events?after={after}&limit=4")
        seen += [event["body"].get("n") for event in page["events"]]
        after = page["next"]
        if after == page["head"]:
            break
    assert seen == [None, *range(10)]
    assert (await get(http, f"/v1/sessions/s1/events?after={after}"))["events"] == []


async def test_history_is_read_backwards_from_the_tail(http: aiohttp.ClientSession) -> None:
    for number in range(10):
        await append(http, number)
    before, pages = "tail", []
    while before:
        page = await get(http, f"/v1/sessions/s1/events?before={before}&limit=4")
        pages.append([event["body"].get("n") for event in page["events"]])
        before = page["previous"]
    assert pages == [[6, 7, 8, 9], [2, 3, 4, 5], [None, 0, 1]]


@pytest.mark.parametrize(("first", "more", "events"), [("after=start", "next", 4), ("before=tail", "previous", 3)])
async def test_a_page_of_large_events_ends_at_eight_mib_both_ways(
    house: Running, http: aiohttp.ClientSession, agent: Fabric, first: str, more: str, events: int
) -> None:
    """The event with which it comes to that is the last: forwards there is a small one before them."""
    session = agent.session("s1")
    for number in range(4):
        await session.append({"type": "app.n", "n": number, "text": "x" * 3_000_000})
    page = await get(http, f"/v1/sessions/s1/events?{first}&limit=1000")
    assert len(page["events"]) == events
    way = first.partition("=")[0]
    rest = await get(http, f"/v1/sessions/s1/events?{way}={page[more]}&limit=1000")
    numbers = [event["body"].get("n") for event in page["events"]]
    others = [event["body"].get("n") for event in rest["events"]]
    assert (numbers + others if way == "after" else others + numbers) == [None, 0, 1, 2, 3]


class _Counting(Rota):
    turns = 0

    async def turn(self) -> None:
        self.turns += 1
        await super().turn()


@pytest.mark.parametrize("asked", ["after=start", "before=tail"])
async def test_a_page_of_many_events_lets_others_have_their_turn(
    house: Running, http: aiohttp.ClientSession, agent: Fabric, asked: str
) -> None:
    session = agent.session("s1")
    for number in range(100):
        await session.append({"type": "app.n", "n": number})
    rota = house.gateway.sender.history = _Counting(1)
    page = await get(http, f"/v1/sessions/s1/events?{asked}&limit=1000")
    assert [event["body"].get("n") for event in page["events"]] == [None, *range(100)]
    assert rota.turns >= 4


async def test_an_event_is_the_same_forwards_and_backwards(
    house: Running, http: aiohttp.ClientSession, agent: Fabric
) -> None:
    await append(http, 0)
    async with agent.session("s1").run(window_s=0) as run:
        await run.text("hi")
        await eventually(lambda: run._writes.idle)
        forwards, backwards = [
            (await get(http, f"/v1/sessions/s1/events?{asked}&limit=1000"))["events"]
            for asked in ("after=start", "before=tail")
        ]
    assert "TEXT_MESSAGE_CONTENT" in [event["type"] for event in forwards]
    assert backwards == forwards


async def test_an_empty_long_poll_answers_in_time(http: aiohttp.ClientSession) -> None:
    offset = await append(http, 0)
    page = await get(http, f"/v1/sessions/s1/events?after={offset}&live=long-poll&timeout_ms=50")
    assert page == {"events": [], "next": offset, "head": offset}


@pytest.mark.parametrize("after", ["tail", None])
async def test_a_long_poll_answers_with_the_first_event(http: aiohttp.ClientSession, after: str | None) -> None:
    after = after or await append(http, 0)
    await append(http, 1)
    first = await get(http, "/v1/sessions/s1")
    if after != "tail":
        after = first["head"]
    polling = asyncio.create_task(get(http, f"/v1/sessions/s1/events?after={after}&live=long-poll&timeout_ms=20000"))
    number = 2
    while not polling.done():
        await append(http, number)
        number += 1
    assert polling.result()["events"][0]["body"]["n"] >= 2


@asynccontextmanager
async def stream(http: aiohttp.ClientSession, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[Json]]:
    """Follow a session by server-sent events; `event`, `id` and `data` of each."""

    async def blocks(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
        block: Json = {}
        async for line in response.content:
            text = line.decode().rstrip("\n")
            if not text:
                if "data" in block:
                    yield {**block, "data": json.loads(block["data"])}
                block = {}
            elif not text.startswith(":"):
                name, _, value = text.partition(": ")
                block[name] = f"{block[name]}\n{value}" if name in block else value

    async with http.get(f"/v1/sessions/s1/events?live=sse{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield blocks(response)


async def test_server_sent_events_bring_history_a_mark_and_what_happens(http: aiohttp.ClientSession) -> None:
    offset = await append(http, 0)
    async with asyncio.timeout(10), stream(http) as blocks:
        assert (await anext(blocks))["data"]["type"] == "session.created"
        event = await anext(blocks)
        assert (event["id"], event["data"]["offset"], event["data"]["body"]["n"]) == (offset, offset, 0)
        assert (await anext(blocks))["event"] == "live"
        mark = await anext(blocks)
        assert (mark["event"], mark["data"]["offset"]) == ("mark", offset)
        later = await append(http, 1)
        assert (await anext(blocks))["id"] == later


async def test_an_event_source_that_comes_back_goes_on_where_it_was(http: aiohttp.ClientSession) -> None:
    offset = await append(http, 0)
    await append(http, 1)
    async with asyncio.timeout(10), stream(http, "&after=start", **{"Last-Event-ID": offset}) as blocks:
        assert (await anext(blocks))["data"]["body"]["n"] == 1


async def test_a_body_with_line_ends_stays_one_server_sent_event(http: aiohttp.ClientSession, agent: Fabric) -> None:
    await append(http, 0)
    await agent.session("s1").append(b'{"type":"app.spread",\r\n"n":\n1\r}')
    async with asyncio.timeout(10), stream(http) as blocks:
        found = [await anext(blocks) for _ in range(3)]
    assert found[2]["data"]["body"] == {"type": "app.spread", "n": 1}


async def test_a_stream_ends_with_its_session(house: Running, http: aiohttp.ClientSession) -> None:
    await append(http, 0)
    async with asyncio.timeout(10), stream(http, "&after=tail") as blocks:
        await anext(blocks)
        async with http.delete("/v1/sessions/s1", headers=may_erase(house)):
            pass
        gone = [block async for block in blocks][-1]
    assert (gone["event"], gone["data"]["code"]) == ("gone", "session_gone")


async def test_a_stream_ends_with_its_token(house: Running, agent: Fabric) -> None:
    await agent.session("s1").append({"type": "app.n"})
    headers = {"Authorization": f"Bearer {house.token(expires_in_s=2)}"}
    async with asyncio.timeout(10), aiohttp.ClientSession(house.url, headers=headers) as http, stream(http) as blocks:
        assert [block async for block in blocks]
        async with http.get("/v1/sessions/s1") as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (401, "token_expired")


async def test_a_client_of_http_1_0_gets_a_stream_without_chunks(house: Running, http: aiohttp.ClientSession) -> None:
    await append(http, 0)
    address = house.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(address[0], int(address[1]))
    path = "/v1/sessions/s1/events?live=sse"
    writer.write(f"GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {house.token()}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        assert b"chunked" not in head
        assert await reader.readuntil(b"\n\n") == b"retry: 1000\n\n"
        assert (await reader.readuntil(b"\n\n")).startswith(b"id: ")
    writer.close()


async def test_messages_are_the_projection(http: aiohttp.ClientSession, agent: Fabric) -> None:
    await post(http, "/v1/sessions/s1/events", {"id": "e1", "body": user_message("question", "m0")})
    async with agent.session("s1").run("r1") as run, run.message("m1") as message:
        await message.text("half ")
        page = await get(http, "/v1/sessions/s1/messages")
        assert page["messages"][0]["content"] == "question"
        await message.text("whole")
    page = await get(http, "/v1/sessions/s1/messages")
    last = page["messages"][-1]
    assert (last["id"], last["content"], last["status"], last["actor"]) == (
        "m1",
        "half whole",
        "completed",
        "agent:writer",
    )


async def test_a_fork_shares_its_past(http: aiohttp.ClientSession) -> None:
    offsets = [await append(http, number) for number in range(3)]
    fork = await post(http, "/v1/sessions/s1/fork", {"at": offsets[1], "session": "s2"})
    assert (fork["session"], fork["source"]) == ("s2", "s1")
    await append(http, 7, "s2")
    page = await get(http, "/v1/sessions/s2/events")
    assert [event["body"]["n"] for event in page["events"] if event["type"] == "app.n"] == [0, 1, 7]
    taken = await post(http, "/v1/sessions/s1/fork", {"at": offsets[1], "session": "s2"}, 409)
    assert taken["code"] == "session_exists"


async def test_a_control_request_is_stored(http: aiohttp.ClientSession, agent: Fabric) -> None:
    async with agent.session("s1").run("r1") as run:
        body = {"id": "c1", "run": "r1", "action": "cancel", "deadline_ms": 60000}
        answer = await post(http, "/v1/sessions/s1/control", body)
        assert "offset" in answer
        await asyncio.sleep(30)
    assert run.id == "r1"
    page = await get(http, "/v1/sessions/s1/events?limit=1000")
    assert "control.accepted" in {event["type"] for event in page["events"]}
    assert (await post(http, "/v1/sessions/s1/control", body | {"id": "c2"}, 409))["code"] == "run_closed"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/nothing", 404, "not_found"),
        ("/nothing.js", 404, "not_found"),
        ("/v1/sessions/a.b", 400, "invalid_name"),
        ("/v1/sessions/a%0Ab", 400, "invalid_name"),
        ("/v1/sessions/%C3%A4", 400, "invalid_name"),
        ("/v1/sessions/none", 404, "session_not_found"),
        ("/v1/sessions/none/events", 404, "session_not_found"),
        ("/v1/sessions/none/events?live=sse", 404, "session_not_found"),
        ("/v1/sessions/none/messages", 404, "session_not_found"),
        ("/v1/sessions?limit=0", 400, "invalid_request"),
        ("/v1/sessions?limit=many", 400, "invalid_request"),
        ("/v1/sessions?colour=red", 400, "invalid_request"),
        ("/v1/sessions/s1/events?after=x", 400, "invalid_offset"),
        ("/v1/sessions/s1/events?limit=1001", 400, "invalid_request"),
        ("/v1/sessions/s1/events?live=maybe", 400, "invalid_request"),
        ("/v1/sessions/s1/events?view=half", 400, "invalid_request"),
        ("/v1/sessions/s1/events?before=tail&live=sse", 400, "invalid_request"),
        ("/v1/sessions/s1/events?after=start&after=tail", 400, "invalid_request"),
        ("/v1/sessions/s1/events?after=0000000000000001_0000000000000001", 409, "offset_foreign"),
        ("/v1/sessions/s1/events?after=0000000000000001_0000000000000001&live=sse", 409, "offset_foreign"),
        ("/v1/sessions/s1/events?after=0000000000000001_0000000000000001&live=long-poll", 409, "offset_foreign"),
    ],
)
async def test_what_is_wrong_is_a_problem_with_a_code(
    http: aiohttp.ClientSession, path: str, status: int, code: str
) -> None:
    await append(http, 0)
    async with http.get(path) as response:
        assert response.content_type == "application/problem+json"
        problem = json.loads(await response.read())
        assert (response.status, problem["status"], problem["code"]) == (status, status, code)
        assert problem["detail"]
        assert problem["retryable"] is False
        assert response.headers["Server"] == "session-fabric"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"x"', b'{"id":7,"body":{}}', b'{"body":{"type":"app.n"},"actor":"x"}', b"\xff"]
)
async def test_a_body_that_is_wrong_is_a_problem(http: aiohttp.ClientSession, body: bytes) -> None:
    async with http.post("/v1/sessions/s1/events", data=body) as response:
        assert (response.status, json.loads(await response.read())["code"]) == (400, "invalid_request")


async def test_a_method_that_is_not_for_a_path_is_told_which_are(http: aiohttp.ClientSession) -> None:
    async with http.put("/v1/sessions/s1") as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(", ")) == {"GET", "DELETE"}
        assert json.loads(await response.read())["code"] == "invalid_request"


@pytest.mark.parametrize("path", ["/", "/operator.html", "/healthz", "/openapi.json"])
async def test_a_page_and_what_is_beside_it_are_there_to_be_read(http: aiohttp.ClientSession, path: str) -> None:
    async with http.post(path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/nope", "/demo/nope.js", "/../nope", "/" + "n" * 300, "/v1", "/v1/nope"])
async def test_where_nothing_is_no_method_is_the_wrong_one(house: Running, method: str, path: str) -> None:
    async with aiohttp.ClientSession(house.url) as http, http.request(method, path) as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (404, "not_found")
        assert "Allow" not in response.headers


async def test_a_body_over_the_limit_is_too_large(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/sessions/s1/events", data=io.BytesIO(b"x" * (9 * 1024 * 1024))) as response:
        assert (response.status, json.loads(await response.read())["code"]) == (413, "too_large")


@pytest.mark.parametrize("header", ["", "Basic x", "Bearer", "Bearer x"])
async def test_who_has_no_token_is_not_let_in(house: Running, header: str) -> None:
    async with aiohttp.ClientSession(house.url, headers={"Authorization": header} if header else {}) as http:
        for path in ("/v1/sessions", "/v1/sessions/s1", "/v1/sessions/s1/events?live=sse", "/v1/sessions/s1/presence"):
            async with http.get(path) as response:
                assert (response.status, json.loads(await response.read())["code"]) == (401, "unauthenticated")
                assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_health_readiness_metrics_and_the_api_need_no_token(house: Running) -> None:
    async with aiohttp.ClientSession(house.url) as http:
        assert await get(http, "/healthz") == {"status": "ok"}
        assert await get(http, "/readyz") == {"status": "ok", "version": VERSION}
        async with http.get("/metrics") as response:
            text = await response.text()
        assert "session_fabric_gateway_connections" in text
        document = await get(http, "/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert "/v1/sessions/{session}/events" in document["paths"]


async def test_every_route_is_in_the_api_document(house: Running) -> None:
    from session_fabric_gateway.app import application
    from session_fabric_gateway.openapi import document

    served = {
        (route.method.lower(), route.resource.canonical)
        for route in application(house.gateway).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    told = {(method, path) for path, item in document()["paths"].items() for method in item}
    ours = {(m, p) for m, p in served if p not in ("/", "/{path}", "/v1/ws")}
    assert told == ours


async def test_pages_of_strangers_get_nothing_and_listed_ones_may_read(start: Start) -> None:
    async with start(allow_origin=["https://app.example"]) as house:
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with aiohttp.ClientSession(house.url, headers=headers) as http:
            for origin in ("https://evil.example", "null", "http://app.example"):
                async with http.get("/v1/sessions", headers={"Origin": origin}) as response:
                    assert (response.status, json.loads(await response.read())["code"]) == (403, "forbidden")
                    assert "Access-Control-Allow-Origin" not in response.headers
            async with http.get("/v1/sessions", headers={"Origin": "https://app.example"}) as response:
                assert response.status == 200
                assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
            preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
            async with http.options("/v1/sessions", headers=preflight) as response:
                assert response.status == 204
                assert "Authorization" in response.headers["Access-Control-Allow-Headers"]


async def test_without_tokens_only_names_of_this_machine_are_answered(start: Start) -> None:
    async with start(insecure=True, dev_secret=None) as house, aiohttp.ClientSession(house.url) as http:
        assert (await get(http, "/v1/sessions"))["sessions"] is not None
        # A name of the web that was made to point here: its pages would be of our own host.
        async with http.get("/v1/sessions", headers={"Host": "rebound.example"}) as response:
            assert response.status == 403
        async with connect(house.url) as client:
            assert (await client.hello())["participant"] == "user:you"


async def test_the_demo_page_is_served_with_a_policy_and_nothing_beside_it(house: Running) -> None:
    async with aiohttp.ClientSession(house.url) as http:
        async with http.get("/") as response:
            assert response.status == 200
            assert "Content-Security-Policy" in response.headers
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        for path in ("/..%2Fapp.py", "/%2e%2e/app.py", "/.hidden", "/nothing"):
            async with http.get(path) as response:
                assert response.status == 404


async def test_a_refusal_keeps_the_members_of_a_problem(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/sessions/s1/events", json={"body": {"type": "session.created"}}) as response:
        problem = await response.json()
        assert (response.status, problem["type"], problem["status"]) == (403, "about:blank", 403)


async def test_since_of_another_session_is_refused(http: aiohttp.ClientSession) -> None:
    await append(http, 0)
    body = {"id": "n1", "since": "1764000000000000_0000000000000042", "body": {"type": "app.n"}}
    async with http.post("/v1/sessions/s1/events", json=body) as response:
        assert (response.status, (await response.json())["code"]) == (409, "offset_foreign")


@pytest.mark.parametrize("missing", ["sub", "tenant", "exp"])
async def test_a_token_names_who_where_and_how_long(house: Running, missing: str) -> None:
    claims = {"sub": "user:ada", "tenant": house.tenant, "exp": int(time.time()) + 60}
    del claims[missing]
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, 'HS256')}"}
    async with aiohttp.ClientSession(headers=headers) as client, client.get(f"{house.url}/v1/sessions") as response:
        assert response.status == 401
        assert missing in (await response.json())["detail"]
