"""Every operation of AG-UI's and TanStack's dialects, for who was granted it and who was not: no cell is missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from session_fabric import Fabric
from session_fabric_gateway.dialects.ag_ui.described import described

from tests.gateway.conftest import Running, Start
from tests.gateway.test_admission import EVERY, ROLES
from tests.gateway.tokens.test_live import KEYS, of
from tests.support.waiting import eventually

RUN, REQUEST = "run-asked", "q1"
AG_UI, TANSTACK = "/v1/ag-ui", "/v1/tanstack/s1"


def _input(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"threadId": "s1", "runId": "mine", "messages": list(messages), **more}


SAYS = _input({"id": "m1", "role": "user", "content": "hello"})
AGAIN = _input({"id": "m0", "role": "user", "content": "x"})
RETURNS = _input({"id": "t1", "role": "tool", "toolCallId": REQUEST, "content": "1"})
RESUMES = _input(resume=[{"interruptId": REQUEST, "status": "resolved", "payload": 1}])
# Path and body; what they need, each of which alone is not enough.
HTTP: list[tuple[str, str, dict[str, Any] | None, list[str]]] = [
    *(("POST", path, body, ["read", "append"]) for path in (AG_UI, TANSTACK) for body in (SAYS, AGAIN)),
    *(("POST", path, body, ["read", "answer"]) for path in (AG_UI, TANSTACK) for body in (RETURNS, RESUMES)),
    ("GET", f"{AG_UI}/s1", None, ["read"]),
    ("GET", f"{AG_UI}/s1/runs/{RUN}", None, ["read"]),
    ("POST", f"{AG_UI}/s1/runs/{RUN}/stop", None, ["control:interrupt"]),
    ("GET", f"{TANSTACK}?threadId=s1", None, ["read"]),
    ("GET", f"{TANSTACK}?offset=-1&runId={RUN}", None, ["read"]),
    ("POST", f"{TANSTACK}/runs/{RUN}/stop", None, ["control:interrupt"]),
]
SOCKETS: list[tuple[str, dict[str, Any] | None, list[str]]] = [
    (TANSTACK, SAYS, ["read", "append"]),
    (TANSTACK, AGAIN, ["read", "append"]),
    (TANSTACK, RETURNS, ["read", "answer"]),
    (f"{TANSTACK}?offset=-1&runId={RUN}", None, ["read"]),
]

KEY = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}


def test_the_tables_have_every_path() -> None:
    told = {(method, path) for path, item in described().items() for method in item}
    asked = set()
    for method, path, _, _ in HTTP:
        named = path.partition("?")[0].replace("/s1", "/{session}").replace(RUN, "{run}")
        asked.add((method.lower(), named))
    assert asked == told


@asynccontextmanager
async def _furnished(agent: Fabric) -> AsyncIterator[None]:
    """Have a session in which somebody has said something, and a run waits for the result of a client's tool."""
    session = agent.session("s1")
    await session.create()
    user = agent.view(participant="user:x", gateway=True).session("s1")
    await user.append({"type": "message.user", "message": {"id": "m0", "role": "user", "content": "x"}}, id="m0")
    async with session.run(RUN) as run, asyncio.TaskGroup() as group:
        asks = group.create_task(run.client_tool("look", {}, id=REQUEST))
        await eventually(lambda: run._suspended)
        yield
        asks.cancel()


def _lacked(said: str) -> str | None:
    """Return the operation that an answer says is not granted."""
    found = re.search(r"does not grant (\S+) in", said)
    return None if found is None else found.group(1)


@pytest.mark.parametrize(("method", "path", "body", "needs"), HTTP, ids=lambda v: v if isinstance(v, str) else "")
async def test_http_does_what_is_granted_and_nothing_else(
    house: Running, agent: Fabric, method: str, path: str, body: dict[str, Any] | None, needs: list[str]
) -> None:
    async with _furnished(agent), aiohttp.ClientSession() as http:

        async def call(role: str, **sessions: list[str]) -> str | None:
            headers = {"Authorization": f"Bearer {house.token(f'{role}:x', sessions=sessions)}"}
            async with http.request(method, house.url + path, json=body, headers=headers) as answer:
                assert answer.status < 500
                if answer.content_type != "text/event-stream":
                    return _lacked(await answer.text())
                while (line := await answer.content.readline()).strip() in (b"", b":"):
                    pass
                return _lacked(line.decode())

        for role in ROLES:
            for lacking in needs:
                assert await call(role, s1=[op for op in EVERY if op != lacking]) == lacking
            assert await call(role, s2=["*"]) == needs[0]
        for role in ROLES:  # behind all that must change nothing
            assert await call(role, s1=needs) is None


@pytest.mark.parametrize(("path", "frame", "needs"), SOCKETS, ids=lambda v: v if isinstance(v, str) else "")
async def test_a_socket_does_what_is_granted_and_nothing_else(
    house: Running, agent: Fabric, path: str, frame: dict[str, Any] | None, needs: list[str]
) -> None:
    async with _furnished(agent), aiohttp.ClientSession() as http:

        async def ask(role: str, **sessions: list[str]) -> str | None:
            headers = {"Authorization": f"Bearer {house.token(f'{role}:x', sessions=sessions)}"}
            upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
            async with http.get(house.url + path, headers=headers | upgrade | KEY) as refused:
                if refused.status == 403:  # to read is asked of everybody, before there is a socket
                    return _lacked(await refused.text())
            async with http.ws_connect(house.url + path, headers=headers) as socket:
                if frame is not None:
                    await socket.send_str(orjson.dumps(frame).decode())
                message = await socket.receive(timeout=10)
                return _lacked(str(message.data) + str(message.extra))

        for role in ROLES:
            for lacking in needs:
                assert await ask(role, s1=[op for op in EVERY if op != lacking]) == lacking
            assert await ask(role, s2=["*"]) == needs[0]
        for role in ROLES:  # behind all that must change nothing
            assert await ask(role, s1=needs) is None


async def test_nobody_comes_in_without_a_token_or_from_a_page_of_strangers(house: Running) -> None:
    async with aiohttp.ClientSession() as http:
        for method, path, body, _ in HTTP:
            async with http.request(method, house.url + path, json=body) as answer:
                assert (answer.status, (await answer.json())["code"]) == (401, "unauthenticated")
            headers = {"Authorization": f"Bearer {house.token()}", "Origin": "https://evil.example"}
            async with http.request(method, house.url + path, json=body, headers=headers) as answer:
                assert (answer.status, (await answer.json())["code"]) == (403, "forbidden")
        for path, _, _ in SOCKETS:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(house.url + path)
            assert refused.value.status == 401
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(house.url + path, headers=headers)
            assert refused.value.status == 403


async def test_who_may_read_no_more_is_cut_off_in_the_middle_of_an_answer(start: Start, agent: Fabric) -> None:
    """What ends a stream is no end: its client comes back, and is told why it may not."""
    session = agent.session("s1")
    await session.create(participants=["user:ada"])
    path = f"{AG_UI}/s1/runs/{RUN}"
    async with start(**KEYS) as house, session.run(RUN) as run, aiohttp.ClientSession(house.url) as http:
        await run.text("Hello")
        headers = {"Authorization": f"Bearer {of(house)}"}
        async with http.get(path, headers=headers) as answer:
            while b"Hello" not in await answer.content.readline():
                pass
            await session.remove_participant("user:ada")
            with pytest.raises(aiohttp.ClientError):
                await answer.content.read()
        async with http.get(path, headers=headers) as answer:
            assert answer.status == 403
