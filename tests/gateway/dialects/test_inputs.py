"""What a framework's client says is said once, however late it says it again."""

from __future__ import annotations

from typing import Any

import aiohttp
from session_fabric import Fabric
from session_fabric.opening import OpenRun
from session_fabric.rules.routing import run_of_input

from tests.fabric.test_writer import forgetful
from tests.gateway.conftest import Start
from tests.gateway.dialects.test_ai_sdk import CHAT, user
from tests.support.servers import NatsNode
from tests.support.sessions import note, stored
from tests.support.waiting import eventually


async def test_a_message_that_is_sent_again_after_minutes_has_one_run(start: Start, own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, streams=1, tenant="t1", participant="agent:writer") as agent:
        session = agent.session("s1")
        await forgetful(agent, session, 100)
        async with start(nats=own_server.url, provision=False) as house, aiohttp.ClientSession(house.url) as http:
            headers = {"Authorization": f"Bearer {house.token(tenant='t1')}"}

            def send(text: str) -> Any:
                return http.post(CHAT, json={"id": "s1", "messages": [user(text)]}, headers=headers)

            async with send("hello") as answer:
                assert answer.status == 200
            (asked,) = [event for event in await stored(session) if event.type == "message.user"]
            claim = {"input": str(asked.offset), "message": "m1"}
            async with OpenRun(session._parts, run_of_input("m1"), 0.0, claim=claim) as run:
                await run.text("Once.")
            probe = (await session.append(note(0), id="probe")).offset

            async def forgotten() -> bool:
                return (await session.append(note(0), id="probe")).offset != probe

            await eventually(forgotten, 30, every_s=0.25)
            async with send("hello") as answer:
                assert b"Once." in await answer.read()
            async with send("something else") as answer:
                assert (answer.status, (await answer.json())["code"]) == (409, "id_conflict")
            assert [event.type for event in await stored(session)].count("message.user") == 1
