"""A pool's worker as a process of its own: it counts, and goes on counting where another one was killed.

`python -m tests.system.worker URL TENANT TOKENS`
"""

from __future__ import annotations

import asyncio
import sys

from session_fabric import AgentRun, Fabric

from tests.system.agent import token


async def main(url: str, tenant: str, count: int) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="agent:child") as fabric:

        @fabric.agent(takeover="continue")
        async def counts(run: AgentRun) -> None:
            said, done = 0, run.said
            while done:
                piece = token(said)
                # A token may have been stored in part.
                if len(done) < len(piece):
                    await run.text(piece[len(done) :])
                    said, done = said + 1, ""
                    break
                said, done = said + 1, done[len(piece) :]
            for number in range(said, count):
                await run.text(token(number))
                await asyncio.sleep(0.001)

        await fabric.watch_over()
        print("ready", flush=True)
        await fabric.serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
