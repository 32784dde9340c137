"""A pool's worker as a process of its own, to be killed: `python -m bench.worker URL TOKENS`."""

from __future__ import annotations

import asyncio
import sys

from session_fabric import AgentRun, Fabric

# Of one length each, so that whoever goes on knows where.
TOKEN = "{:06d} "


async def main(url: str, count: int) -> None:
    async with Fabric.connect(url, participant="agent:worker") as fabric:

        @fabric.agent(takeover="continue")
        async def counts(run: AgentRun) -> None:
            length = len(TOKEN.format(0))
            said = run.said
            first = len(said) // length
            if len(said) % length:  # a token was stored in part
                await run.text(TOKEN.format(first)[len(said) % length :])
                first += 1
            for number in range(first, count):
                await run.text(TOKEN.format(number))
                await asyncio.sleep(0.002)

        await fabric.watch_over()
        print(fabric.broker.holder, flush=True)
        await fabric.serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
