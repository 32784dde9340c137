"""An agent that counts, and writes each second how many tasks it has: `python -m bench.soak.agent URL FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from session_fabric import AgentRun, Fabric

from bench.soak.watched import write_tasks

TOKENS: Final = 40
TOKEN: Final = "{:03d} "
_EVERY_S: Final = 0.05


def whole() -> str:
    """Return what an answer is that nothing is missing of."""
    return "".join(map(TOKEN.format, range(TOKENS)))


async def main(url: str, file: Path) -> None:
    async with Fabric.connect(url, participant="agent:counts") as fabric, asyncio.TaskGroup() as tasks:

        @fabric.agent(takeover="continue", concurrency=8)
        async def counts(run: AgentRun) -> None:
            said = len(run.said)
            text = whole()[said:]
            length = len(TOKEN.format(0))
            for first in range(0, len(text), length):
                await run.text(text[first : first + length])
                await asyncio.sleep(_EVERY_S)

        async def tell() -> None:
            while True:
                write_tasks(file)
                await asyncio.sleep(1.0)

        telling = tasks.create_task(tell())
        await fabric.watch_over()
        print("ready", flush=True)
        await fabric.serve()
        telling.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
