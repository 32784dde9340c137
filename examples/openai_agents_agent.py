"""An agent of the OpenAI Agents SDK whose tool needs approval. `python examples/openai_agents_agent.py ADDRESS`

It runs offline, with the SDK's own model for tests, and answers one question; put a real model in its place.
"""

import asyncio
import sys

from agents import Agent, RunConfig, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from session_fabric import Fabric
from session_fabric.frameworks.openai_agents import openai_agents


@function_tool(needs_approval=True)
def delete(file: str) -> str:
    """Delete a file."""
    return f"{file} is gone"


script = [[function_call("delete", {"file": "a.txt"}, call_id="call-1")], [assistant_message("It is done.")]]
agent = Agent(name="cleaner", model=ScriptedModel(script), tools=[delete])


async def main(url: str) -> None:
    async with Fabric.connect(url, participant="agent:cleaner") as fabric:
        fabric.agent()(openai_agents(agent, run_config=RunConfig(tracing_disabled=True)))
        await fabric.serve()


asyncio.run(main(sys.argv[1]))
