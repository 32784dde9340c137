"""Who is believed dead, and who is not: frozen, cut off, cut off for a moment, through elections of the broker."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from session_fabric import Absence, Event, Fabric, Session
from session_fabric.leases import BUCKET
from session_fabric.rules.routing import run_of_input

from tests.support.link import Link
from tests.support.servers import NatsCluster, NatsNode
from tests.support.sessions import Following, exact, stored, text_of, types
from tests.support.waiting import eventually
from tests.system.agent import answer

ROOT = Path(__file__).parents[2]
TOKENS = 3000


@asynccontextmanager
async def worker(url: str, tenant: str, count: int = TOKENS) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.worker", url, tenant, str(count), stdout=PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def swallowing(node: NatsNode) -> AsyncIterator[Link]:
    link = Link(node.port)
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


class Watched:
    """A session whose run is followed to its end by somebody who also watches over the others."""

    def __init__(self, fabric: Fabric) -> None:
        self.session: Session = fabric.session("chat-1")
        self.following = Following(self.session)
        self.run = run_of_input("q1")

    async def begin(self) -> None:
        """Ask, and wait until the answer is under way."""
        await self.session.create()
        message = {"id": "q1", "role": "user", "content": "count"}
        await self.session.append({"type": "message.user", "message": message}, id="q1")
        await eventually(lambda: types(self.following.events).count("TEXT_MESSAGE_CONTENT") > 20, 30)

    @property
    def life(self) -> list[str]:
        return [e.type for e in self.following.events if e.run == self.run and e.type.startswith(("RUN_", "run."))]

    def over(self, events: list[Event]) -> bool:
        return bool(events) and events[-1].type in ("RUN_FINISHED", "RUN_ERROR")


@pytest.fixture
async def watched(shared_server: NatsNode, tenant: str) -> AsyncIterator[Watched]:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="user:ada") as fabric:
        await fabric.watch_over()
        yield Watched(fabric)


async def whole(watched: Watched) -> None:
    """The answer is whole, for who followed it, for late joiners and in the projection; nothing in it is twice."""
    messages = [m for m in (await watched.session.messages()).messages if m.role == "assistant"]
    assert [(m.content, m.status) for m in messages] == [(answer(TOKENS), "completed")]
    assert text_of(exact(await stored(watched.session)), messages[0].id) == answer(TOKENS)


async def test_a_frozen_worker_has_died_and_when_it_wakes_it_writes_nothing_that_counts_twice(
    watched: Watched, shared_server: NatsNode, tenant: str
) -> None:
    got = asyncio.create_task(watched.following.until(watched.over, 60))
    async with worker(shared_server.url, tenant) as first:
        await watched.begin()
        told: list[Absence] = []
        await watched.session.on_absence(told.append)
        first.send_signal(signal.SIGSTOP)
        await eventually(lambda: "run.orphaned" in watched.life, 30)
        assert told == []  # no connection has ended
        async with worker(shared_server.url, tenant):
            await eventually(lambda: "run.taken_over" in watched.life, 30)
            first.send_signal(signal.SIGCONT)
            exact(await got)
    assert watched.life == ["RUN_STARTED", "run.orphaned", "run.taken_over", "RUN_FINISHED"]
    await whole(watched)


async def test_a_worker_that_wakes_before_anybody_else_came_goes_on_with_what_it_lost(
    watched: Watched, shared_server: NatsNode, tenant: str
) -> None:
    got = asyncio.create_task(watched.following.until(watched.over, 60))
    async with worker(shared_server.url, tenant) as only:
        await watched.begin()
        only.send_signal(signal.SIGSTOP)
        await eventually(lambda: "run.orphaned" in watched.life, 30)
        only.send_signal(signal.SIGCONT)
        exact(await got)
    assert watched.life == ["RUN_STARTED", "run.orphaned", "run.taken_over", "RUN_FINISHED"]
    await whole(watched)


async def test_a_worker_whose_packets_are_dropped_has_died_although_its_connection_stands(
    watched: Watched, shared_server: NatsNode, tenant: str
) -> None:
    got = asyncio.create_task(watched.following.until(watched.over, 60))
    async with swallowing(shared_server) as link, worker(f"nats://127.0.0.1:{link.port}", tenant):
        await watched.begin()
        link.swallow()
        await eventually(lambda: "run.orphaned" in watched.life, 30)
        async with worker(shared_server.url, tenant):
            exact(await got)
            assert watched.life == ["RUN_STARTED", "run.orphaned", "run.taken_over", "RUN_FINISHED"]
            await whole(watched)


async def test_a_connection_that_breaks_for_a_moment_costs_nobody_his_run(
    watched: Watched, shared_server: NatsNode, tenant: str
) -> None:
    got = asyncio.create_task(watched.following.until(watched.over, 60))
    async with swallowing(shared_server) as link, worker(f"nats://127.0.0.1:{link.port}", tenant):
        await watched.begin()
        connections = link.connections
        link.cut()
        link.mend()
        await eventually(lambda: link.connections > connections)
        exact(await got)
    assert watched.life == ["RUN_STARTED", "RUN_FINISHED"]
    await whole(watched)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_nobody_is_believed_dead_when_the_broker_elects_a_leader_of_the_leases(
    shared_cluster: NatsCluster, tenant: str, how: str
) -> None:
    async with Fabric.connect(shared_cluster.url, tenant=tenant, participant="user:ada", streams=4) as fabric:
        await fabric.watch_over()
        watched = Watched(fabric)
        got = asyncio.create_task(watched.following.until(watched.over, 90))
        leader = await eventually(lambda: shared_cluster.stream_leader(f"KV_{BUCKET}"))
        # Whose own node hangs is silent until it finds out, and may be believed dead: as if its packets were dropped.
        others = ",".join(node.url for node in shared_cluster.nodes if node is not leader)
        try:
            async with worker(others, tenant, TOKENS), worker(others, tenant, TOKENS):
                await watched.begin()
                leader.kill() if how == "kill" else leader.freeze()
                try:
                    exact(await got)
                finally:
                    if how == "freeze":
                        leader.thaw()
        finally:
            await shared_cluster.restart()
        assert watched.life == ["RUN_STARTED", "RUN_FINISHED"]
        await whole(watched)
