"""Every operation of every dialect, for who was granted it and for who was not: no cell is missing."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
import pytest
from session_fabric import Fabric, Session
from session_fabric_gateway.dialects.ai_sdk.described import described

from tests.gateway.conftest import Running
from tests.gateway.test_admission import EVERY, ROLES

RUN, REQUEST = "run-asked", "q1"


def _user(id: str = "m1") -> dict[str, Any]:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": "hello"}]}


def _answering() -> dict[str, Any]:
    part = {"type": "tool-look", "toolCallId": REQUEST, "state": "output-available", "output": 1}
    return {"id": RUN, "role": "assistant", "parts": [part]}


AI = "/v1/ai-sdk/chat"
# Path and body; what they need, each of which alone is not enough.
HTTP: list[tuple[str, str, dict[str, Any] | None, list[str]]] = [
    ("POST", AI, {"id": "s1", "messages": [_user()]}, ["read", "append"]),
    ("POST", AI, {"id": "s1", "messages": [_user("m0")], "messageId": "m0"}, ["read", "append"]),
    ("POST", AI, {"id": "s1", "messages": [_user("m0")], "trigger": "regenerate-message"}, ["read", "append"]),
    ("POST", AI, {"id": "s1", "messages": [_answering()]}, ["read", "answer"]),
    ("GET", f"{AI}/s1/stream", None, ["read"]),
    ("GET", f"{AI}/s1/messages", None, ["read"]),
    ("POST", f"{AI}/s1/stop", None, ["control:cancel"]),
]
SOCKETS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("/v1/ai-sdk/ws", {"type": "send", "id": "s1", "messages": [_user()]}, ["read", "append"]),
    ("/v1/ai-sdk/ws", {"type": "send", "id": "s1", "messages": [_answering()]}, ["read", "answer"]),
    ("/v1/ai-sdk/ws", {"type": "resume", "id": "s1"}, ["read"]),
]


def test_the_tables_have_every_path() -> None:
    asked = {(method.lower(), path.replace("/s1", "/{chat}")) for method, path, _, _ in HTTP}
    asked |= {("get", path) for path, _, _ in SOCKETS}
    assert asked == {(method, path) for path, item in described().items() for method in item}


async def _furnished(agent: Fabric) -> Session:
    """Have a session in which somebody has said something."""
    session = agent.session("s1")
    await session.create()
    await (
        agent.view(participant="user:x", gateway=True)
        .session("s1")
        .append({"type": "message.user", "message": {"id": "m0", "role": "user", "content": "x"}}, id="m0")
    )
    return session


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path", "body", "needs"), HTTP, ids=lambda v: v if isinstance(v, str) else "")
async def test_http_does_what_is_granted_and_nothing_else(
    house: Running, agent: Fabric, role: str, method: str, path: str, body: dict[str, Any] | None, needs: list[str]
) -> None:
    await _furnished(agent)
    async with aiohttp.ClientSession() as http:

        async def call(**sessions: list[str]) -> tuple[int, str | None]:
            headers = {"Authorization": f"Bearer {house.token(f'{role}:x', sessions=sessions)}"}
            async with http.request(method, house.url + path, json=body, headers=headers) as answer:
                if answer.status != 403:
                    return answer.status, None
                problem = await answer.json()
                return 403, problem.get("operation")

        for lacking in needs:
            assert await call(s1=[op for op in EVERY if op != lacking]) == (403, lacking)
        assert await call(s2=["*"]) == (403, needs[0])
        status, operation = await call(s1=needs)
        assert operation is None
        assert status < 500


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("path", "frame", "needs"), SOCKETS, ids=lambda v: v if isinstance(v, str) else "")
async def test_a_socket_does_what_is_granted_and_nothing_else(
    house: Running, agent: Fabric, role: str, path: str, frame: dict[str, Any], needs: list[str]
) -> None:
    await _furnished(agent)
    async with aiohttp.ClientSession() as http:

        async def ask(**sessions: list[str]) -> str:
            headers = {"Authorization": f"Bearer {house.token(f'{role}:x', sessions=sessions)}"}
            async with http.ws_connect(house.url + path, headers=headers) as socket:
                await socket.send_str(orjson.dumps({"requestId": "r1", **frame}).decode())
                answer = orjson.loads(await socket.receive_str(timeout=10))
                return str(answer.get("errorText", answer["type"]))

        for lacking in needs:
            said = await ask(s1=[op for op in EVERY if op != lacking])
            assert said.startswith("forbidden: ")
            assert f"does not grant {lacking} in" in said
        assert f"does not grant {needs[0]} in" in await ask(s2=["*"])
        assert not (await ask(s1=needs)).startswith("forbidden")


async def test_nobody_comes_in_without_a_token_or_from_a_page_of_strangers(house: Running) -> None:
    async with aiohttp.ClientSession() as http:
        for path in (f"{AI}/s1/stream", "/v1/ai-sdk/ws"):
            async with http.get(house.url + path) as answer:
                assert (answer.status, (await answer.json())["code"]) == (401, "unauthenticated")
        headers = {"Authorization": f"Bearer {house.token()}", "Origin": "https://evil.example"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{house.url}/v1/ai-sdk/ws", headers=headers)
        assert refused.value.status == 403


async def test_a_ticket_opens_one_socket(house: Running) -> None:
    headers = {"Authorization": f"Bearer {house.token()}"}
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{house.url}/v1/tickets", headers=headers) as answer:
            ticket = (await answer.json())["ticket"]
        url = f"{house.url}/v1/ai-sdk/ws?ticket={ticket}"
        async with http.ws_connect(url) as socket:
            await socket.send_str('{"type":"resume","requestId":"r1","id":"nowhere"}')
            assert orjson.loads(await socket.receive_str()) == {"type": "no-active", "requestId": "r1"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(url)
        assert refused.value.status == 401
