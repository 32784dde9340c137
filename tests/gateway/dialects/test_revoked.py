"""What a revoked token takes away from who is connected by a framework's socket."""

from __future__ import annotations

import time
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from session_fabric import Fabric
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import revocation

from tests.gateway.conftest import Running
from tests.gateway.sockets import close_code

HELLO = {"id": "m1", "role": "user", "content": "hello"}


async def _closed(socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, list[Any]]:
    """Return the code with which the gateway closes, and what it said before."""
    said = []
    while (message := await socket.receive(timeout=10.0)).type is WSMsgType.TEXT:
        said.append(message.json())
    return close_code(socket, message), said


@pytest.mark.parametrize("busy", [False, True])
async def test_a_tanstack_socket_is_cut_when_its_token_is_revoked_and_the_run_goes_on(
    house: Running, agent: Fabric, busy: bool
) -> None:
    session = agent.session("s1")
    await session.create()
    at = int(time.time()) - 60
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"{house.url}/v1/tanstack/s1", headers={"Authorization": f"Bearer {house.token(jti='t1', iat=at)}"}
        ) as socket,
        http.ws_connect(
            f"{house.url}/v1/tanstack/s1", headers={"Authorization": f"Bearer {house.token(jti='t2', iat=at)}"}
        ) as other,
        session.run() as run,
    ):
        if busy:
            await socket.send_json({"threadId": "s1", "runId": "r1", "messages": [HELLO]})
        now_ms = time.time_ns() // 1_000_000
        wanted = revocation(agent.tenant, "token", "t1", now_ms=now_ms, for_s=600)
        await revoke(agent.broker, wanted, by="operator:ann", now_ms=now_ms)
        code, said = await _closed(socket)
        # Below 4500, and no end of the run: a client comes back, with a token that counts.
        assert code == 4412
        assert not [event for event in said if event.get("chunk", event)["type"] in ("RUN_FINISHED", "RUN_ERROR")]
        await run.text("still here")
        await other.send_json({"threadId": "s1", "runId": "r2", "messages": [{**HELLO, "content": 7}]})
        assert (await other.receive_json(timeout=10.0))["type"] == "RUN_ERROR"
