"""A mover that is killed in the middle leaves nothing lost, and another brings its move to the end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

import orjson
import pytest
from session_fabric import Event
from session_fabric.jetstream.operating import Operator
from session_fabric.jetstream.topology import BUCKET, LAYOUT
from session_fabric.ports import Entry
from session_fabric.rules.layout import lodged
from session_fabric.words.errors import BrokerUnavailable, MoveUnderWay
from session_fabric.words.subjects import Place, shard_of

from tests.fabric.jetstream.test_moving import World, heard, url, world
from tests.support.link import Link
from tests.support.sessions import note, said, stored
from tests.support.waiting import eventually

__all__ = ["url", "world"]


def phase_of(entry: Entry) -> str | None:
    """Return in which phase the newest move is, as the layout says."""
    moves: list[dict[str, Any]] = orjson.loads(entry.value or b"{}").get("moves", [])
    return str(moves[-1]["phase"]) if moves else None


async def persistent(world: World, tenant: str, stop: asyncio.Event) -> list[str]:
    """Append until told to stop, again with the same id while the broker takes nothing; return the ids."""
    fabric = await world.fabric(tenant, "user:busy")
    done: list[str] = []
    while not stop.is_set():
        id = f"busy-{len(done)}"
        try:
            await fabric.session("chat").append(said(id, id), id=id)
        except BrokerUnavailable:
            continue
        done.append(id)
    return done


async def taken_over(operator: Operator) -> bool:
    return (await operator.layout()).moves[0].phase in ("left", "gone")


async def next_command(operator: Operator, shard: int) -> None:
    """Move something else: it is done when what stood still is finished, too."""
    home = lodged(await operator.layout(), "", shard)
    other = next(x for x in (await operator.layout()).lodgings if x.stream != home.stream and len(x.shards) > 1)
    async with asyncio.timeout(60.0):
        while True:
            with suppress(MoveUnderWay):  # until the dead one's hold has ended
                await operator.move_bucket(other.shards[:1], None)
                break
    assert await taken_over(operator)


@pytest.mark.parametrize(
    ("phase", "by"), [("cutting", "repair"), ("placed", "repair"), ("placed", "command"), ("placed", "watch")]
)
async def test_whatever_it_was_at_another_brings_it_to_its_end(world: World, tenant: str, phase: str, by: str) -> None:
    """`kill -9` of a process whose network swallows everything from the moment at which the phase is written down."""
    writer = await world.fabric(tenant)
    reader = await world.fabric(tenant, "user:reader")
    session = writer.session("chat")
    await session.append(said("before", "m0"))
    shard = shard_of(Place(tenant, "chat"))
    link = Link(int(world.url.split(",")[0].rpartition(":")[2]))
    await link.start()
    reached = asyncio.Event()

    def hear(entry: Entry) -> None:
        if entry.key == LAYOUT and phase_of(entry) == phase:
            link.swallow()
            reached.set()

    listening = await writer.broker.bucket(BUCKET).watch("", hear)
    stop, followed = asyncio.Event(), list[Event]()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(heard(reader, "chat", followed))
        load = tasks.create_task(persistent(world, tenant, stop))
        await eventually(lambda: len(followed) > 20, 30.0)
        command = [sys.executable, "-m", "session_fabric_cli", "stream", "move-bucket", str(shard), "--yes"]
        mover = await asyncio.create_subprocess_exec(
            *command, "--nats", link.url.replace("http", "nats"), stderr=asyncio.subprocess.DEVNULL
        )
        await asyncio.wait_for(reached.wait(), 60.0)
        mover.kill()
        await mover.wait()
        await link.stop()
        operator = await world.operator()
        (move,) = (await operator.layout()).moves
        assert move.phase == phase
        if phase == "cutting":
            # Writers go on by themselves, before anybody mends anything: when the dead one's hold has ended.
            count = len(followed)
            await eventually(lambda: len(followed) > count + 50, 30.0)
        if by == "command":
            await next_command(operator, shard)
        elif by == "watch":
            await writer.watch_over()
            await eventually(lambda: taken_over(operator), 60.0)
        async with asyncio.timeout(60.0):
            while findings := await operator.check():
                with suppress(MoveUnderWay):  # until the dead one's hold has ended
                    await operator.repair(findings)
        count = len(followed)
        await eventually(lambda: len(followed) > count + 50, 30.0)
        stop.set()
        ids = await load
        await session.append(note("last"), id="last")
        await eventually(lambda: any(e.id == "last" for e in followed), 30.0)
        following.cancel()
    await listening.close()
    assert lodged(await operator.layout(), tenant, shard).stream == "SESSIONS-02"
    log = await stored(session)
    assert [e.id for e in log if e.id.startswith("busy-")] == ids
    assert [e.id for e in followed] == [e.id for e in log]
