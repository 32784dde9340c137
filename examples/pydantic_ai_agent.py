"""A Pydantic AI agent with a tool. `python examples/pydantic_ai_agent.py ADDRESS`

It runs offline, with Pydantic AI's own model for tests; put a real one in its place.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from session_fabric import Fabric
from session_fabric.frameworks.pydantic_ai import pydantic_ai


async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    newest = messages[-1].parts[-1]
    if newest.part_kind == "user-prompt":
        yield {0: DeltaToolCall(name="weather", json_args='{"city":"Oslo"}')}
    else:
        for word in ("It ", "is ", newest.content, "."):
            yield str(word)


agent = Agent(FunctionModel(stream_function=model))


@agent.tool_plain
def weather(city: str) -> str:
    """Say what the weather is in a city."""
    return f"sunny in {city}"


async def main(url: str) -> None:
    async with Fabric.connect(url, participant="agent:weather") as fabric:
        fabric.agent()(pydantic_ai(agent))
        await fabric.serve()


asyncio.run(main(sys.argv[1]))
