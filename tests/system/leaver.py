"""A pool's worker that is told to end: `python -m tests.system.leaver URL TENANT TOKENS`.

Each step of its life is a line on stdout, the last one written while the interpreter takes itself apart: then it waits
for a line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from session_fabric import AgentRun, Fabric, logs

from tests.system.agent import token


class Last:
    """Goes with the module, when signals are the operating system's again."""

    def __del__(self, write: Callable[..., int] = os.write, read: Callable[..., bytes] = os.read) -> None:
        write(1, b"ending\n")
        read(0, 1)


async def main(url: str, tenant: str, count: int) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="agent:child") as fabric:

        @fabric.agent()
        async def counts(run: AgentRun) -> None:
            for number in range(count):
                await run.text(token(number))
                print("at it", flush=True)
                await asyncio.sleep(0.001)

        await fabric.watch_over()
        print("ready", flush=True)
        await fabric.serve()
        print("served", flush=True)


if __name__ == "__main__":
    logs.to_stderr("info", "json")
    last = Last()
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
