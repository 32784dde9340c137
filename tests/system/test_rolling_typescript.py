"""Gateways that are replaced one after the other under the TypeScript client: it goes elsewhere, and misses nothing."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from session_fabric import Fabric

from tests.fault.page import node
from tests.support.rolling import gateways
from tests.support.servers import NatsNode, die_with_parent
from tests.support.waiting import eventually

_FOLLOWER: Final = Path(__file__).parent / "node" / "follower.mjs"
_WAYS: Final = ("websocket", "sse")
_NOTES: Final = 200


class Followers:
    """What the client's devices were given: notes by their number, in the order in which they came."""

    def __init__(self) -> None:
        self.notes: dict[str, list[int]] = {way: [] for way in _WAYS}
        self.lives = Counter[str]()

    async def hear(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            said = json.loads(line)
            if "live" in said:
                self.lives[said["way"]] += 1
            else:
                self.notes[said["way"]].append(said["n"])


@asynccontextmanager
async def followers(url: str, session: str) -> AsyncIterator[Followers]:
    given = json.dumps({"url": url, "session": session})
    flags = ["--experimental-websocket", "--no-warnings"]
    process = await asyncio.create_subprocess_exec(
        node(), *flags, str(_FOLLOWER), given, stdin=PIPE, stdout=PIPE, preexec_fn=die_with_parent
    )
    heard = Followers()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(heard.hear(process))
            yield heard
            assert process.stdin is not None
            process.stdin.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_page_has_every_event_once_and_in_order_while_every_gateway_is_replaced(
    own_server: NatsNode, tmp_path: Path
) -> None:
    async with (
        Fabric.connect(own_server.url, streams=2, tenant="default", participant="agent:writer") as fabric,
        gateways(own_server.url, tmp_path, "--drain", "1") as some,
        followers(some.balancer.url, "chat") as page,
    ):
        session = fabric.session("chat")
        await session.append({"type": "app.note", "n": 0})
        await eventually(lambda: all(page.lives[way] for way in _WAYS), 30)

        async def replaced() -> None:
            for number in range(2):
                await some.replace(number)

        async with asyncio.TaskGroup() as tasks:
            replacing, count = tasks.create_task(replaced()), 1
            while count < _NOTES or not replacing.done():
                await session.append({"type": "app.note", "n": count})
                count += 1
                await asyncio.sleep(0.01)
        # Each has gone to another gateway, and is through with what it missed.
        await eventually(lambda: all(page.lives[way] > 1 for way in _WAYS), 30)
        await eventually(lambda: all(count - 1 in notes for notes in page.notes.values()), 30)
        # What a rewind brings may be late.
        assert {way: sorted(page.notes[way]) for way in _WAYS} == {way: list(range(count)) for way in _WAYS}
        assert some.ended == [0, 0]
