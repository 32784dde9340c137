"""A pool's worker as a process of its own, which asks before it answers, and stops only when it is told to.

`python -m tests.system.asker URL TENANT`
"""

from __future__ import annotations

import asyncio
import sys

from session_fabric import AgentRun, Fabric


async def main(url: str, tenant: str) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="agent:asker") as fabric:

        @fabric.agent(takeover="continue", concurrency=8)
        async def asks(run: AgentRun) -> None:
            if run.input.text == "wait":
                await run.text("Waiting")
                await asyncio.Event().wait()
            approval = await run.approve("Refund?", to="role:operator", deadline_s=60)
            await run.text(f"{'Refunded' if approval.approved else 'Refused'} by {approval.by}")

        await fabric.watch_over()
        print("ready", flush=True)
        await fabric.serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
