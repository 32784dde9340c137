"""The demo agent on a language model: pydantic-ai's own test models, and a server that speaks OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from session_fabric import Fabric, RunFailed
from session_fabric.ports import Broker
from session_fabric_cli.demo.answers import Turn
from session_fabric_cli.demo.model import ModelAnswerer, history, openai_model
from session_fabric_cli.demo.search import Search
from session_fabric_cli.demo.sections import find_sections

from tests.support.servers import free_port


@pytest.fixture
def search() -> Iterator[Search]:
    found = Search(find_sections())
    yield found
    found.close()


@pytest.fixture
async def fabric(broker: Broker, tenant: str) -> Fabric:
    return await Fabric.over(broker, tenant=tenant, participant="agent:docs")


async def answered(fabric: Fabric, answerer: ModelAnswerer, question: str) -> dict[str, Any]:
    """Answer in a run of a new session; return the message."""
    session = fabric.session("chat")
    async with session.run("r1") as run:
        await answerer.answer(run, question, [Turn("user", "Hi"), Turn("assistant", "Hello.")])
    [message] = (await session.messages()).messages
    return message.plain()


async def test_a_model_searches_and_its_words_are_streamed(fabric: Fabric, search: Search) -> None:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        returned = [p for m in messages for p in m.parts if isinstance(p, ToolReturnPart)]
        if not returned:
            yield "Let me look."
            yield {0: DeltaToolCall("search_docs", json.dumps({"query": "close code 4408"}), tool_call_id="call-1")}
            return
        assert "slow consumer" in str(returned[0].content)
        for word in ("It was ", "too slow."):
            yield word

    message = await answered(fabric, ModelAnswerer(search, FunctionModel(stream_function=stream)), "What is 4408?")
    assert message["content"] == "Let me look.\n\nIt was too slow."
    [call] = message["tool_calls"]
    assert call["name"] == "search_docs"
    assert "slow consumer" in json.dumps(call["result"])
    types = [event.type for event in (await fabric.session("chat").history()).events]
    assert types.index("TOOL_CALL_RESULT") < types.index("message.completed")


def test_a_model_is_told_what_was_said_before() -> None:
    said = history([Turn("user", "Hi"), Turn("assistant", "Hello."), Turn("assistant", "")])
    assert [type(m) for m in said] == [ModelRequest, ModelResponse]


@pytest.fixture
async def openai() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers chat completions with a few chunks; its URL, and what it was asked."""
    asked: list[dict[str, Any]] = []

    async def complete(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] != "Bearer right":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        asked.append(await request.json())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for text in ("From ", "the ", "model."):
            choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
            await response.write(_chunk([choice]))
        await response.write(_chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/v1", asked
    await runner.cleanup()


def _chunk(choices: list[dict[str, Any]]) -> bytes:
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": choices}
    return f"data: {json.dumps(body)}\n\n".encode()


async def test_any_server_that_speaks_openais_api_can_answer(
    fabric: Fabric, search: Search, openai: tuple[str, list[dict[str, Any]]]
) -> None:
    url, asked = openai
    async with openai_model("tiny", url, "right") as model:
        message = await answered(fabric, ModelAnswerer(search, model), "Hello?")
    assert message["content"] == "From the model."
    assert asked[0]["model"] == "tiny"
    assert [tool["function"]["name"] for tool in asked[0]["tools"]] == ["search_docs"]
    assert [m["content"] for m in asked[0]["messages"][-3:]] == ["Hi", "Hello.", "Hello?"]


async def test_a_refused_key_is_told_to_the_session(
    fabric: Fabric, search: Search, openai: tuple[str, list[dict[str, Any]]]
) -> None:
    async with openai_model("tiny", openai[0], "wrong") as model:
        with pytest.raises(RunFailed, match="401"):
            await answered(fabric, ModelAnswerer(search, model), "Hello?")


async def test_a_server_that_is_not_there_is_told_to_the_session(fabric: Fabric, search: Search) -> None:
    async with openai_model("tiny", f"http://127.0.0.1:{free_port()}/v1", None) as model:
        with pytest.raises(RunFailed, match="could not answer"):
            await answered(fabric, ModelAnswerer(search, model), "Hello?")
