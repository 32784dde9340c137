"""The demo agent on a language model: any server that speaks OpenAI's chat completions (extra `model`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.exceptions import AgentRunError, ModelHTTPError, UserError
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from session_fabric import AgentRun, RunFailed
from session_fabric.authoring import ToolCall

from session_fabric_cli.demo.answers import Turn
from session_fabric_cli.demo.search import Search, words_of
from session_fabric_cli.demo.writers import TOOL, Answerer

_TURNS_SENT: Final = 20
# Of each section that was found: the longest is the list of error codes, with 5,000 characters.
_MOST_TEXT: Final = 10_000
_INSTRUCTIONS: Final = (
    "You answer questions about Session Fabric, a durable session layer for AI agents on NATS JetStream. "
    f"Look the answer up with the tool {TOOL} before you answer; say so when the documentation does not have it. "
    "Be brief, write Markdown, and end with the sources that you used as links."
)


@asynccontextmanager
async def openai_model(name: str, url: str | None, api_key: str | None) -> AsyncIterator[Model]:
    """Open a model behind an OpenAI-compatible API; servers without keys take any."""
    async with AsyncOpenAI(base_url=url, api_key=api_key or "none") as client:
        yield OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


class ModelAnswerer(Answerer):
    """Streams what the model writes: text, thoughts, and its calls of the search tool."""

    def __init__(self, search: Search, model: Model) -> None:
        self._agent = Agent(model, instructions=_INSTRUCTIONS)

        @self._agent.tool_plain(name=TOOL)
        async def search_docs(query: str) -> list[dict[str, str]]:
            """Search the documentation of Session Fabric; returns the best sections with their sources."""
            hits = search.find(words_of(query))
            sections = [hit.section for hit in hits]
            return [{"title": one.title, "source": one.link, "text": one.text[:_MOST_TEXT]} for one in sections]

    async def answer(self, run: AgentRun, question: str, before: Sequence[Turn]) -> None:
        try:
            await self._stream(run, question, before)
        except ModelHTTPError as error:
            raise RunFailed(f"The model's server answered {error.status_code} for {error.model_name}.") from error
        except (AgentRunError, UserError) as error:
            raise RunFailed(f"The model could not answer: {error}") from error

    async def _stream(self, run: AgentRun, question: str, before: Sequence[Turn]) -> None:
        calls: dict[str, ToolCall] = {}
        said = False
        async with (
            run.message() as message,
            self._agent.run_stream_events(question, message_history=history(before)) as events,
        ):
            async for event in events:
                match event:
                    case PartStartEvent(part=TextPart(content=text)):
                        # What it says after a tool's answer is a paragraph of its own.
                        await message.text(f"\n\n{text}" if said else text)
                        said = True
                    case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                        await message.text(text)
                    case PartStartEvent(part=ThinkingPart(content=text)):
                        await message.reasoning(text)
                    case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(text))):
                        await message.reasoning(text)
                    case FunctionToolCallEvent(part=part):
                        calls[part.tool_call_id] = await run.tool(part.tool_name, part.args_as_dict())
                    case FunctionToolResultEvent(part=part) if part.tool_call_id in calls:
                        await calls.pop(part.tool_call_id).result(part.content)
                    case _:
                        pass


def history(before: Sequence[Turn]) -> list[ModelMessage]:
    """Return the newest turns as the model wants them."""
    said: list[ModelMessage] = []
    for turn in before[-_TURNS_SENT:]:
        if turn.role == "user":
            said.append(ModelRequest(parts=[UserPromptPart(content=turn.text)]))
        elif turn.text:
            said.append(ModelResponse(parts=[TextPart(content=turn.text)]))
    return said
