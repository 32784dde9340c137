"""A process that is killed while it removes what retention says must go: another one has the turn, and finishes."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from session_fabric import Fabric
from session_fabric.ports import Entry
from session_fabric.records import BUCKET, parse
from session_fabric.words.errors import OffsetGone

from tests.support.servers import NatsNode
from tests.support.sessions import note, stored, values
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
SESSIONS, EVENTS, KEPT = 40, 60, 5


@asynccontextmanager
async def trimmer(node: NatsNode, tenant: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.trimmer", node.url, tenant, stdout=PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert (await process.stdout.readline()).strip() == b"ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_another_one_finishes_what_a_killed_trimmer_has_begun(shared_server: NatsNode, tenant: str) -> None:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="operator:ann", streams=4) as fabric:
        sessions = [fabric.session(f"chat-{n}") for n in range(SESSIONS)]

        async def filled(n: int) -> None:
            for m in range(EVENTS):
                # Large enough to be stored apart: those have to go with their events.
                await sessions[n].append(note(f"{m} " + "x" * (300_000 if m == 0 else 10)))

        await asyncio.gather(*(filled(n) for n in range(SESSIONS)))
        first = (await stored(sessions[0]))[0].offset
        begun = asyncio.Event()

        def changed(entry: Entry) -> None:
            record = None if entry.value is None else parse(entry.value)
            if record is not None and record.owed:
                if not begun.is_set():
                    killed.send_signal(signal.SIGKILL)  # between saying what goes and its going
                begun.set()

        async with trimmer(shared_server, tenant) as killed:
            listening = await fabric.broker.bucket(BUCKET).watch("", changed)
            await asyncio.gather(*(session.set_retention(max_events=KEPT) for session in sessions))
            async with asyncio.timeout(30):
                await begun.wait()
                await killed.wait()
            await listening.close()
            assert killed.returncode == -signal.SIGKILL
            records = [await session.record() for session in sessions]
            assert sum(record.floor == (0, 0) for record in records) > 0, "it had done everything"

            async with trimmer(shared_server, tenant):

                async def finished() -> bool:
                    found = [await fabric._shared.directory.load(s.place, fresh=True) for s in sessions]
                    return all(record.floor != (0, 0) and not record.owed for record in found)

                await eventually(finished, 60, every_s=0.1)
        for session in sessions:
            kept = [str(value).split(" ")[0] for value in values(await stored(session))]
            assert kept == [str(n) for n in range(EVENTS - KEPT, EVENTS)]
            assert await fabric.broker.blobs(session.place) == []
        with pytest.raises(OffsetGone):
            await stored(sessions[0], first)
