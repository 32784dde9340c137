"""Three nodes: leaders die, replicas fall behind, and nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from session_fabric.ports import Broker, Guard, Stretch, Wanted
from session_fabric.words.errors import BrokerUnavailable, Conflict
from session_fabric.words.wire import Record

from tests.support.brokers import connect
from tests.support.events import claim, collect, delta, everything, milestone, stretch, value
from tests.support.servers import NatsCluster, NatsNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster

WRITERS = 6
EACH = 60


@pytest.fixture
async def cluster(shared_cluster: NatsCluster) -> AsyncIterator[NatsCluster]:
    """The run's cluster, whole again afterwards."""
    await shared_cluster.ready()
    yield shared_cluster
    for node in shared_cluster.nodes:
        if node.alive:
            node.thaw()
    await shared_cluster.restart()


@pytest.fixture
async def near(cluster: NatsCluster) -> AsyncIterator[Broker]:
    broker = await connect(cluster.url)
    yield broker
    await broker.close()


@pytest.fixture
async def far(cluster: NatsCluster) -> AsyncIterator[Broker]:
    broker = await connect(cluster.url)
    yield broker
    await broker.close()


async def leader_of(cluster: NatsCluster, to: Stretch) -> NatsNode:
    return await eventually(lambda: cluster.stream_leader(to.home.stream), 30)


async def write(broker: Broker, to: Stretch, writer: int, acked: dict[str, int]) -> None:
    """Publish one by one, each until it is acknowledged, under one id."""
    for n in range(EACH):
        draft = milestone([writer, n], id=f"w{writer}-{n}", writer=f"agent:{writer}")
        while True:
            try:
                ack = await broker.log.publish(to, draft)
            except BrokerUnavailable:
                continue
            acked[draft.id] = ack.sequence
            break


@pytest.mark.parametrize("how", ["kill", "stop", "freeze"])
async def test_nothing_acknowledged_is_lost_or_doubled_when_the_leader_goes_under_writers(
    cluster: NatsCluster, near: Broker, far: Broker, tenant: str, how: str
) -> None:
    to = await stretch(near, tenant)
    leader = await leader_of(cluster, to)
    acked: dict[str, int] = {}
    heard: list[Record] = []
    await far.log.listen(to, heard.append)
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for writer in range(WRITERS):
            group.create_task(write((near, far)[writer % 2], to, writer, acked))
        await eventually(lambda: len(acked) > WRITERS * EACH // 4, every_s=0)
        getattr(leader, how)()
    assert len(acked) == WRITERS * EACH
    stored = await patiently(near, to)
    assert {r.id: r.sequence for r in stored} == acked
    assert len(stored) == len(acked)
    assert [r.offset for r in stored] == [r.offset for r in await patiently(far, to)]
    for writer in range(WRITERS):
        assert [value(r) for r in stored if r.actor == f"agent:{writer}"] == [[writer, n] for n in range(EACH)]
    check_heard(heard, stored)


async def patiently(broker: Broker, to: Stretch) -> list[Record]:
    """Read everything, trying again as a follower does: every try may meet a node that hangs."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await everything(broker, to)
            except BrokerUnavailable:
                continue


def check_heard(heard: list[Record], stored: list[Record]) -> None:
    """What was heard is stored, in order, once; and whatever is missing of it shows in the chain of predecessors."""
    kept = {r.sequence: r for r in stored}
    for subject in {r.subject for r in stored}:
        mine = [r for r in heard if r.subject == subject]
        assert [r.sequence for r in mine] == sorted({r.sequence for r in mine})
        chain = [r.sequence for r in stored if r.subject == subject]
        for record in mine:
            assert record.event() == kept[record.sequence].event()
            at = chain.index(record.sequence)
            assert record.previous == (chain[at - 1] if at else 0)


async def test_of_racing_claims_one_wins_while_the_leader_dies(
    cluster: NatsCluster, near: Broker, far: Broker, tenant: str
) -> None:
    to = await stretch(near, tenant)
    leader = await leader_of(cluster, to)
    generation = 0

    async def race(number: int, guard: Guard) -> int | None:
        draft = claim("r1", writer=f"agent:{number}", id=f"claim-{guard.sequence}-{number}")
        while True:
            try:
                return (await (near, far)[number % 2].log.publish(to, draft, guard=guard)).sequence
            except BrokerUnavailable:
                continue
            except Conflict:
                return None

    async with asyncio.timeout(90):
        for round_ in range(8):
            guard = Guard("own", "r1", generation)
            async with asyncio.TaskGroup() as group:
                racing = [group.create_task(race(n, guard)) for n in range(8)]
                if round_ == 3:
                    leader.kill()
            won = [s for s in (task.result() for task in racing) if s is not None]
            assert len(won) == 1
            generation = won[0]
    assert len(await patiently(near, to)) == 8


async def test_a_read_is_whole_though_a_replica_has_fallen_behind(cluster: NatsCluster, tenant: str) -> None:
    broker = await connect(cluster.url)
    try:
        to = await stretch(broker, tenant)
        leader = await leader_of(cluster, to)
        await broker.close()
        broker = await connect(leader.url)
        sleeper = next(node for node in cluster.nodes if node is not leader)
        ids: list[str] = []
        for round_ in range(3):
            sleeper.freeze()
            for n in range(100):
                draft = milestone(n, id=f"{round_}-{n}") if n % 2 else delta("x", run="r1", id=f"{round_}-{n}")
                await broker.log.publish(to, draft)
                ids.append(draft.id)
            sleeper.thaw()
            # Now it answers again, and may not have caught up.
            for _ in range(10):
                head = await broker.log.head(to)
                assert [r.id for r in await collect(broker.log.read(to, after=0, upto=head))] == ids
                tail = broker.log.read(to, after=0, upto=head, wanted=[Wanted("ev"), Wanted("tok", "r1")])
                assert [r.id for r in await collect(tail)] == ids
                page = await collect(broker.log.read_back(to, before=head + 1, limit=20))
                assert [r.id for r in page] == ids[-20:]
                lasts = await broker.log.lasts(to, 0, head)
                assert max(lasts.values()) == head
    finally:
        await broker.close()


async def test_reading_goes_on_while_a_replica_hangs(cluster: NatsCluster, tenant: str) -> None:
    brokers = [await connect(node.url) for node in cluster.nodes]
    try:
        to = await stretch(brokers[0], tenant)
        await brokers[0].log.publish(to, milestone("x" * 300_000))
        for n in range(20):
            await brokers[0].log.publish(to, milestone(n))
        hanging = next(node for node in cluster.nodes if node is not cluster.stream_leader(to.home.stream))
        hanging.freeze()
        for node, broker in zip(cluster.nodes, brokers, strict=True):
            if node is hanging:
                continue
            for _ in range(6):
                assert len(await patiently(broker, to)) == 21
    finally:
        for broker in brokers:
            await broker.close()


async def test_what_is_stored_after_the_head_was_asked_is_heard_on_every_node(
    cluster: NatsCluster, tenant: str
) -> None:
    """`listen` alone speaks for the node it asked; the leader learns of the interest before it answers `head`."""
    brokers = [await connect(node.url) for node in cluster.nodes]
    try:
        for n in range(90):
            listener, writer = brokers[n % 3], brokers[(n + 1 + n // 3 % 2) % 3]
            to = await stretch(listener, tenant, f"chat-{n}")
            heard: list[Record] = []
            listening = await listener.log.listen(to, heard.append)
            assert await listener.log.head(to) == 0
            ack = await writer.log.publish(to, milestone(n))
            await eventually(partial(bool, heard))
            assert [r.sequence for r in heard] == [ack.sequence]
            await listening.close()
    finally:
        for broker in brokers:
            await broker.close()
