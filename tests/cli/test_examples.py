"""The examples, run as the documentation says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from session_fabric import Fabric

from tests.support.servers import NatsNode

EXAMPLES = Path(__file__).parents[2] / "examples"


async def test_the_echo_agent_says_back_what_it_is_told(own_server: NatsNode) -> None:
    agent = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / "echo_agent.py", own_server.url, stderr=subprocess.DEVNULL
    )
    try:
        async with Fabric.connect(own_server.url, participant="user:ada") as fabric, asyncio.timeout(30):
            session = fabric.session("chat")
            message = {"id": "m1", "role": "user", "content": "to be or not"}
            await session.append({"type": "message.user", "message": message})
            async for event in session.follow("start"):
                if event.type == "RUN_FINISHED":
                    break
            assert [m.content for m in (await session.messages()).messages] == ["to be or not", "to be or not "]
    finally:
        agent.terminate()
        await agent.wait()
