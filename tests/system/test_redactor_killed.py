"""A process that is killed while it removes what a message says: the log says so, and who asks again finishes."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import aclosing
from pathlib import Path

from session_fabric import Fabric, Session
from session_fabric.words.events import MESSAGE_REDACTED

from tests.support.servers import NatsNode
from tests.support.sessions import stored, types

ROOT = Path(__file__).parents[2]
CALLS, SECRET = 150, "4111-1111"


async def raw(session: Session) -> list[str]:
    async with aclosing(session.read(deltas="all")) as batches:
        return [f"{record!r} {record.payload.decode()}" async for records in batches for record in records]


async def test_who_asks_again_finishes_what_a_killed_process_has_begun(shared_server: NatsNode, tenant: str) -> None:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="agent:writer", streams=4) as fabric:
        session = fabric.session("chat-1")
        async with session.run("r1") as run, run.message() as message:
            await message.text(f"Noted: {SECRET}.")
            for _ in range(CALLS):
                await (await run.tool("charge", {"card": SECRET})).result(f"charged {SECRET}")
        # What an agent has saved is removed last, so that it is all there when the process is killed.
        await session.checkpoints.put({("state", str(n)): f"{SECRET} {n}".encode() for n in range(CALLS)})
        head, whole = await session.head(), (await session.redactable(message.id)).events
        assert whole > 2 * CALLS
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.system.redactor", shared_server.url, tenant, "chat-1", message.id),
            stdout=PIPE,
            cwd=ROOT,
        )
        try:
            async with asyncio.timeout(30), aclosing(session.follow(head)) as events:
                async for event in events:
                    if event.type == MESSAGE_REDACTED:
                        break
        finally:
            process.kill()  # it has said so, and begins to remove
            told, _ = await process.communicate()
        assert (told, process.returncode) == (b"", -signal.SIGKILL)
        left = (await session.redactable(message.id)).events
        assert 0 < left <= whole, "it had removed everything"
        assert (await session.messages()).messages[0].redacted, "whoever reads on is shown it as redacted already"
        (pending,) = (await fabric._shared.directory.load(session.place, fresh=True)).redacting
        assert pending.target == message.id
        proof = await session.redact(message.id, reason="Once more.")
        assert (proof.again, proof.remains, proof.reason) == (True, 0, "A card number.")
        assert (proof.checkpoints, await session.checkpoints.entries()) == (CALLS, [])
        assert 0 < proof.events <= left  # what the killed one had asked for was still being removed
        assert (await fabric._shared.directory.load(session.place, fresh=True)).redacting == ()
        assert [r for r in await raw(session) if SECRET in r] == []
        assert types(await stored(session)).count(MESSAGE_REDACTED) == 1
