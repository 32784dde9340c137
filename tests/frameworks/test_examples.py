"""The examples of frameworks, as processes; and what becomes of a question when its process is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from session_fabric import Fabric, Session

from tests.frameworks.talk import answers, ended, messages, request, say, seen
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
# Processes import whole frameworks, from sources where no bytecode is kept, on a machine with other work to do.
STARTED_S = 200.0
pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def running(example: str, node: NatsNode) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an example; when it has not been killed, end it as an operator does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / example, node.url, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.fixture
async def operator(own_server: NatsNode) -> AsyncIterator[Fabric]:
    async with Fabric.connect(own_server.url, participant="operator:eve", streams=1) as fabric:
        await fabric.watch_over()
        yield fabric


@pytest.fixture
def session(operator: Fabric) -> Session:
    return operator.view(participant="user:ada").session("chat")


async def agents(operator: Fabric) -> bool:
    """Say whether two processes serve agents."""
    return len([each for each in await operator.processes() if each.kind == "agent"]) == 2


async def test_the_pydantic_ai_agent_answers_with_its_tool(own_server: NatsNode, session: Session) -> None:
    async with running("pydantic_ai_agent.py", own_server):
        await ended(session, await say(session, "the weather?"), STARTED_S)
    assert (await answers(session))[-1] == "It is sunny in Oslo."
    assert [call.name for message in await messages(session) for call in message.tool_calls] == ["weather"]


async def test_the_openai_agents_agent_asks_before_it_deletes(own_server: NatsNode, session: Session) -> None:
    async with running("openai_agents_agent.py", own_server):
        run = await say(session, "delete a.txt")
        waiting = await request(session, STARTED_S)
        await session.answer(waiting.request, {"approved": True})
        await ended(session, run)
    assert waiting.body["title"] == "Call delete?"
    assert (await answers(session))[-1] == "It is done."


async def test_a_langgraph_agent_that_is_killed_while_it_waits_is_gone_on_for_by_another(
    own_server: NatsNode, operator: Fabric, session: Session
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(running("langgraph_agent.py", own_server))
        run = await say(session, "there is cake")
        waiting = await request(session, STARTED_S)
        await stack.enter_async_context(running("langgraph_agent.py", own_server))
        await eventually(partial(agents, operator), STARTED_S)
        first.kill()
        await seen(session, lambda event: event.type == "run.taken_over", STARTED_S)
        await session.answer(waiting.request, {"approved": True})
        events = await ended(session, run)
    assert waiting.body["text"] == "Dear all, there is cake. Yours, the agent"
    # The draft was made once, by the first process; the second has told it again, and gone on.
    assert await answers(session) == ["Dear all, there is cake. Yours, the agent", "It is sent."]
    assert [event.type for event in events].count("input.requested") == 1
    assert [event.type for event in events].count("run.taken_over") == 1
    assert events[-1].type == "RUN_FINISHED"
