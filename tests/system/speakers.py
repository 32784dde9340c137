"""An agent's process with many runs under way, all the same: words in order from 0, so that whoever reads them knows
what must follow.
"""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection

from session_fabric import Fabric

from tests.support.servers import die_with_parent


def session(number: int) -> str:
    return f"rolling-{number}"


def word(number: int) -> str:
    return f"{number} "


def speak(url: str, sessions: int, a_second: float, pipe: Connection) -> None:
    """Be that process: it says `speaking` when all have begun. Told something it says nothing more, and tells how many
    words each has said; told again it ends the runs."""
    die_with_parent()
    asyncio.run(_speak(url, sessions, a_second, pipe))


async def _speak(url: str, sessions: int, a_second: float, pipe: Connection) -> None:
    quiet, over = asyncio.Event(), asyncio.Event()
    said, ready = [0] * sessions, asyncio.Semaphore(0)

    async def one(fabric: Fabric, number: int) -> None:
        async with fabric.session(session(number)).run("r1") as run, run.message("m1") as message:
            ready.release()
            while not quiet.is_set():
                await message.text(word(said[number]))
                said[number] += 1
                await asyncio.sleep(1 / a_second)
            await run.stored()
            ready.release()
            await over.wait()

    async def all_of_them() -> None:
        for _ in range(sessions):
            await ready.acquire()

    async with (
        Fabric.connect(url, tenant="default", participant="agent:speaker", timeout_s=30.0) as fabric,
        asyncio.TaskGroup() as group,
    ):
        for number in range(sessions):
            group.create_task(one(fabric, number))
        await all_of_them()
        pipe.send("speaking")
        await asyncio.to_thread(pipe.recv)
        quiet.set()
        await all_of_them()
        pipe.send(said)
        await asyncio.to_thread(pipe.recv)
        over.set()
