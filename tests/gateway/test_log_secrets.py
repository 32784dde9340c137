"""Nothing of what is said, and no token, is in any log: of a gateway and a worker that do everything, and fail."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Iterator

import aiohttp
import pytest
import structlog
from session_fabric import AgentRun, Fabric, logs
from session_fabric.rules.routing import run_of_input
from session_fabric.words.errors import RequestExpired

from tests.fabric.test_agents import ended, served
from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import greeted, user_message

WORDS = "a-word-that-was-said"


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that is logged by all loggers from DEBUG on, as a process of ours writes it."""
    written = io.StringIO()
    root = logging.getLogger()
    handlers, level, config = list(root.handlers), root.level, structlog.get_config()
    configured = structlog.is_configured()
    monkeypatch.setattr(sys, "stderr", written)
    logs.to_stderr("debug", "json")
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        if configured:
            structlog.configure(**config)


async def test_no_log_holds_words_bodies_or_tokens(everything: io.StringIO, start: Start, broker_url: str) -> None:
    asyncio.get_running_loop().set_debug(True)
    secrets = [WORDS]
    async with start() as house:
        tenant = house.tenant
        async with Fabric.connect(broker_url, tenant=tenant, participant="agent:writer") as fabric:

            @fabric.agent(pool="default")
            async def handler(run: AgentRun) -> None:
                async with run.message() as message:
                    await message.text(run.input.text)
                with pytest.raises(RequestExpired):
                    await run.client_tool("look", {"at": WORDS}, deadline_s=0.2)
                raise ValueError(f"what was said is wrong: {run.input.text}")

            async with served(handler):
                await _ask(house, secrets)
                end = await ended(fabric.session("s1"), run_of_input("q1"))
                assert end.type == "RUN_ERROR"
        await _abuse(house, secrets)
    text = everything.getvalue()
    events = [line for line in text.splitlines() if line]
    (failed, *_) = [line for line in events if '"run_failed"' in line]
    assert "builtins.ValueError" in failed  # the handler's exception, without its text
    assert any('"logger"' in line for line in events), text  # that of libraries stands there too
    assert [line for line in events if not line.startswith("{")] == []
    assert [line for secret in secrets for line in events if secret in line] == []


async def _ask(house: Running, secrets: list[str]) -> None:
    token = house.token()
    secrets += [token, token.rpartition(".")[2]]
    async with greeted(house.url, token) as client, aiohttp.ClientSession(house.url) as http:
        await client.open("s1", presence={"note": WORDS})
        await client.append("s1", user_message(WORDS, "q1"), id="q1")
        await client.ask("state.put", session="s1", document="plan", body={"text": WORDS})
        await client.send(op="signal", session="s1", body={"text": WORDS})
        head = {"Authorization": f"Bearer {token}"}
        async with http.post("/v1/tickets", headers=head) as response:
            ticket = (await response.json())["ticket"]
        secrets.append(ticket)
        async with http.get("/v1/sessions/s1/events", params={"live": "sse", "ticket": ticket}) as response:
            assert response.status == 200
            await response.content.readline()
        async with http.get("/v1/sessions/s1/events", params={"live": "sse", "ticket": ticket}) as response:
            assert response.status == 401  # it counts once
        async with http.post("/v1/sessions/s1/events", json={"body": user_message(WORDS)}, headers=head) as response:
            assert response.status == 201


async def _abuse(house: Running, secrets: list[str]) -> None:
    """Send what is refused, in every layer: its own words are not quoted either."""
    bad = f"eyJ.{WORDS}.sig"
    secrets.append(bad)
    async with greeted(house.url, house.token()) as client:
        for frame in ({"op": WORDS}, {"op": "append", "id": 1, WORDS: 1}, {"op": "append", "id": "x", "session": "s1"}):
            await client.socket.send_json(frame)
            assert (await client.op("error"))["op"] == "error"
        await client.socket.send_str('{"op":"append","text":"' + WORDS)
        assert (await client.op("error"))["op"] == "error"
    async with aiohttp.ClientSession(house.url) as http:
        async with http.get("/v1/sessions", headers={"Authorization": f"Bearer {bad}"}) as response:
            assert response.status == 401
        secrets.append("eyJ.as-a-protocol.sig")
        async with http.ws_connect("/v1/ws", protocols=[f"bearer.{secrets[-1]}"]) as socket:
            assert socket.protocol is None
        async with http.post(
            "/v1/sessions/s1/events", data=WORDS, headers={"Authorization": f"Bearer {house.token()}"}
        ) as response:
            assert response.status == 400
    host, port = house.url.removeprefix("http://").split(":")
    for raw in (f"GET / HTTP/1.1\r\nAuthorization: Bearer {bad}\r\nbroken\x01{WORDS}\r\n\r\n", f"{WORDS}\r\n\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw.encode())
        await writer.drain()
        assert await reader.read()
        writer.close()
        await writer.wait_closed()
