"""What AG-UI's and TanStack's clients never send is refused in their own form, with our code in it."""

from __future__ import annotations

import asyncio
import io
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import orjson
import pytest
from session_fabric import Fabric
from session_fabric.opening import OpenRun
from session_fabric.rules.routing import run_of_input

from tests.gateway.conftest import Running
from tests.support.waiting import eventually

AG_UI, TANSTACK = "/v1/ag-ui", "/v1/tanstack/s1"
HELLO = {"id": "m1", "role": "user", "content": "hello"}
GOOD = {"threadId": "s1", "runId": "r1", "messages": [HELLO]}
BAD: list[tuple[Any, str]] = [
    (b"{", "invalid_request"),
    (b"[]", "invalid_request"),
    ({}, "invalid_request"),
    ({**GOOD, "threadId": 7}, "invalid_request"),
    ({**GOOD, "messages": "hello"}, "invalid_request"),
    ({**GOOD, "messages": ["hello"]}, "invalid_request"),
    ({**GOOD, "messages": []}, "invalid_request"),
    ({**GOOD, "messages": [{"id": "a1", "role": "assistant", "content": "hello"}]}, "invalid_request"),
    ({**GOOD, "messages": [{"id": "t1", "role": "tool", "toolCallId": "none", "content": "1"}]}, "invalid_request"),
    ({**GOOD, "messages": [{"role": "user", "content": "hello"}]}, "invalid_request"),
    ({**GOOD, "messages": [{**HELLO, "content": 7}]}, "invalid_event"),
    ({**GOOD, "messages": [{"id": "m1", "role": "user"}]}, "invalid_event"),
    ({**GOOD, "messages": [{"id": "m1", "role": "user", "parts": []}]}, "invalid_event"),
    ({**GOOD, "messages": [{**HELLO, "id": "m 1"}]}, "invalid_event"),
    ({**GOOD, "runId": "r 1"}, "invalid_name"),
    ({**GOOD, "runId": "r" * 129}, "invalid_name"),
    ({**GOOD, "resume": {}}, "invalid_request"),
    ({**GOOD, "resume": [{"interruptId": "q1"}]}, "invalid_request"),
    ({**GOOD, "resume": [{"interruptId": "none", "status": "resolved"}]}, "request_not_found"),
    ({**GOOD, "messages": [{**HELLO, "content": "x" * 300_000}] * 40}, "too_large"),
]


def _bytes(body: Any) -> io.BytesIO:
    return io.BytesIO(body if isinstance(body, bytes) else orjson.dumps(body))


@pytest.mark.parametrize(("body", "code"), BAD, ids=lambda v: v if isinstance(v, str) else "")
async def test_what_is_posted_wrong_is_told_as_each_clients_error(
    house: Running, agent: Fabric, http: aiohttp.ClientSession, body: Any, code: str
) -> None:
    await agent.session("s1").create()
    headers = {"Content-Type": "application/json"}
    async with http.post(AG_UI, data=_bytes(body), headers=headers) as answer:
        problem = await answer.json()
        assert (problem["code"], answer.content_type) == (code, "application/problem+json")
    async with http.post(TANSTACK, data=_bytes(body), headers=headers) as answer:
        if code == "too_large":
            assert answer.status == 413
            return
        assert answer.status == 200
        event = orjson.loads((await answer.text()).removeprefix("data: "))
        assert (event["type"], event["code"]) == ("RUN_ERROR", code)
        assert event["metadata"]["tanstack"]["threadId"] == "s1"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (AG_UI, b"[]", ("The RunAgentInput is an array.", "Send a JSON object.")),
        (AG_UI, b"null", ("The RunAgentInput is null.", "Send a JSON object.")),
        ("/v1/ai-sdk/chat", b'"hello"', ("The request is a string.", "Send a JSON object.")),
        (AG_UI, b'{"threadId":"s1"}', ("lacks the field 'runId'.", "threadId, runId, parentRunId, messages,")),
        ("/v1/ai-sdk/chat", b'{"id":"s1"}', ("lacks the field 'messages'.", "id, messages, trigger, messageId.")),
    ],
)
async def test_what_is_wrong_is_named_as_the_client_spells_it(
    house: Running, http: aiohttp.ClientSession, path: str, body: bytes, said: tuple[str, str]
) -> None:
    async with http.post(path, data=io.BytesIO(body), headers={"Content-Type": "application/json"}) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (400, "invalid_request")
    assert said[0] in problem["detail"]
    assert said[1] in problem["hint"]


async def test_a_thread_needs_the_name_of_a_session(house: Running, http: aiohttp.ClientSession) -> None:
    async with http.post(AG_UI, json={**GOOD, "threadId": "no session"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "invalid_name")
    async with http.post(TANSTACK, json={**GOOD, "threadId": "another"}) as answer:
        event = orjson.loads((await answer.text()).removeprefix("data: "))
        assert (event["code"], "not the session of this URL" in event["message"]) == ("invalid_request", True)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/ag-ui/nowhere", 404, "session_not_found"),
        ("/v1/ag-ui/nowhere/runs/r1", 404, "session_not_found"),
        ("/v1/ag-ui/s2/runs/r1", 404, "not_found"),  # it is another session's
        ("/v1/ag-ui/s1/runs/r1?offset=nonsense", 400, "invalid_offset"),
        ("/v1/ag-ui/s1/runs/r1?offset=0000000000000007_0000000000000007", 409, "offset_foreign"),
        ("/v1/ag-ui/s1?abort=perhaps", 400, "invalid_request"),
        ("/v1/ag-ui/s1?more=1", 400, "invalid_request"),
        ("/v1/tanstack/nowhere?threadId=nowhere", 404, "session_not_found"),
        ("/v1/tanstack/s1?threadId=s2", 400, "invalid_request"),
        ("/v1/tanstack/s1?threadId=s1&limit=0", 400, "invalid_request"),
        ("/v1/tanstack/s1?threadId=s1&before=none", 400, "invalid_request"),
        ("/v1/tanstack/s1", 400, "invalid_request"),
        ("/v1/tanstack/s2?offset=-1&runId=r1", 404, "not_found"),
        ("/v1/tanstack/s1?offset=0000000000000007_0000000000000007&runId=r1", 409, "offset_foreign"),
    ],
)
async def test_what_is_asked_for_and_is_not_there_is_a_problem(
    house: Running, agent: Fabric, http: aiohttp.ClientSession, path: str, status: int, code: str
) -> None:
    for name in ("s1", "s2"):
        await agent.session(name).create()
    async with agent.session("s1").run("r1") as run:
        await run.text("Hello")
    async with http.get(path) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_a_place_behind_the_end_of_its_session_is_refused(
    house: Running, agent: Fabric, http: aiohttp.ClientSession
) -> None:
    session = agent.session("s1")
    async with session.run("r1") as run:
        await run.text("Hello")
    head = await session.head()
    beyond = f"{head.segment:016d}_{head.sequence + 1000:016d}"
    async with http.get("/v1/ag-ui/s1/runs/r1", headers={"Last-Event-ID": beyond}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (409, "offset_foreign")


async def test_a_run_whose_beginning_was_removed_says_so(
    house: Running, agent: Fabric, http: aiohttp.ClientSession
) -> None:
    session = agent.session("s1")
    ada = agent.view(participant="user:ada", gateway=True).session("s1")
    await ada.append({"type": "message.user", "message": HELLO}, id="mine")
    said = await agent.session("s1").append({"type": "app.n"})
    claim = {"input": str((await session.history()).events[1].offset)}
    async with OpenRun(session._parts, run_of_input("mine"), 0.0, claim=claim) as run:
        await run.text("Hello")
    async with http.get("/v1/ag-ui/s1/runs/mine") as answer:
        assert b"Hello" in await answer.read()
    record = await session.record()
    floor = tuple(said.offset)
    await agent._shared.directory.change(record.place, lambda r: r.model_copy(update={"floor": floor}))
    for path in ("/v1/ag-ui/s1/runs/mine", f"{TANSTACK}?offset=-1&runId=mine"):

        async def refused(path: str = path) -> bool:
            async with http.get(path) as answer:
                return answer.status == 410 and (await answer.json())["code"] == "offset_gone"

        await eventually(refused)


async def test_frames_of_a_socket_that_are_none_are_answered_and_it_goes_on(
    house: Running, agent: Fabric, http: aiohttp.ClientSession
) -> None:
    await agent.session("s1").create()
    async with http.ws_connect(TANSTACK) as socket:
        for frame in ("{", "[]", "{}", '{"type":"abort"}', '{"type":"abort","runId":"none"}', '{"runId":7}'):
            await socket.send_str(frame)
        await socket.send_str(orjson.dumps({**GOOD, "messages": []}).decode())
        codes = [orjson.loads(await socket.receive_str(timeout=10))["code"] for _ in range(5)]
        assert codes == ["invalid_request"] * 5
        assert not socket.closed


@pytest.mark.parametrize("root", ["/v1/ag-ui/s1", TANSTACK])
@pytest.mark.parametrize("busy", [True, False])
async def test_what_waits_in_the_queue_can_be_stopped_by_its_run_id(
    house: Running, agent: Fabric, http: aiohttp.ClientSession, root: str, busy: bool
) -> None:
    async with AsyncExitStack() as stack:
        if busy:
            first = await stack.enter_async_context(agent.session("s1").run("first"))
            for word in range(150):  # more than one page of history
                await first.text(f"{word} ")
                await first.stored()
        async with http.post(root if root == TANSTACK else AG_UI, json={**GOOD, "runId": "r2"}) as answer:
            assert answer.status == 200
            async with http.post(f"{root}/runs/r2/stop") as stopped:
                assert (stopped.status, await stopped.json()) == (200, {"stopped": True})
            async with http.post(f"{root}/runs/r3/stop") as stopped:
                assert stopped.status == 404
            async with agent.session("s1").run(run_of_input("r2")) as run:
                await asyncio.Event().wait()
            assert run.cancelled
        async with http.post(f"{root}/runs/r2/stop") as stopped:
            assert await stopped.json() == {"stopped": False}
