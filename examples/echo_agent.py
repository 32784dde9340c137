"""An agent in 15 lines: says back what it is told. `python examples/echo_agent.py nats://127.0.0.1:PORT`"""

import asyncio
import sys

from session_fabric import AgentRun, Fabric


async def main(url: str) -> None:
    async with Fabric.connect(url, participant="agent:echo") as fabric:

        @fabric.agent(pool="default")
        async def echo(run: AgentRun) -> None:
            for word in run.input.text.split():
                await run.text(f"{word} ")

        await fabric.serve()


asyncio.run(main(sys.argv[1]))
