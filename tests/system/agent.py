"""An agent as a process of its own: one run, token by token. `python -m tests.system.agent URL TENANT RUN TOKENS`."""

from __future__ import annotations

import asyncio
import sys

from session_fabric import Fabric

SESSION = "chat-1"


def token(number: int) -> str:
    """The text that an answer consists of, so that whoever reads it knows what must follow."""
    return f"{number} é😀, "


def answer(count: int) -> str:
    return "".join(token(number) for number in range(count))


async def main(url: str, tenant: str, run: str, count: int) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="agent:child") as fabric:
        async with fabric.session(SESSION).run(run, window_s=0.005) as writing, writing.message(f"m-{run}") as message:
            for number in range(count):
                await message.text(token(number))
                await asyncio.sleep(0.0005)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
