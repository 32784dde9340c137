"""An agent in 15 lines: says back what it is told. `python examples/echo_agent.py nats://127.0.0.1:PORT`"""

import asyncio
import sys

from session_fabric import Fabric


async def main(url: str) -> None:
    async with (
        Fabric.connect(url, participant="agent:echo") as fabric,
        fabric.subscribe(durable="echo", kind="in") as inbox,
    ):
        while True:
            for work in await inbox.fetch():
                async with fabric.session(work.session).run() as run:
                    for word in work.text.split():
                        await run.text(f"{word} ")
                await work.ack()


asyncio.run(main(sys.argv[1]))
