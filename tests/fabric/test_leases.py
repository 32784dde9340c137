"""A process's lease: one for all that it holds, known to everybody, given up at the end."""

from __future__ import annotations

import asyncio
import time

import pytest
from session_fabric import Fabric
from session_fabric.leases import BUCKET, BURIED, alive_call
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Entry
from session_fabric.rules.leases import LEASE_S, STORES_WITHIN_S
from session_fabric.words.errors import BrokerUnavailable, LeaseLost, NobodyAnswers
from structlog.testing import capture_logs

from tests.support.sessions import Fabrics
from tests.support.waiting import eventually


async def test_a_lease_stands_from_the_first_hold_on_and_its_process_answers(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    lease = one._shared.lease
    with pytest.raises(LeaseLost):
        await lease.check()
    with pytest.raises(NobodyAnswers):
        await two.broker.calls.ask(alive_call(lease.holder), b"", timeout_s=1)
    await asyncio.gather(lease.hold(), lease.hold())
    await lease.check()
    assert lease.held
    assert lease.holder in await two._shared.lease.alive()
    assert await two.broker.calls.ask(alive_call(lease.holder), b"", timeout_s=1) == b"yes"


@pytest.mark.needs_rights
async def test_a_lease_outlives_its_two_seconds(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    changes: list[Entry] = []
    await two.broker.bucket(BUCKET).watch("", changes.append)
    await one._shared.lease.hold()
    began = asyncio.get_running_loop().time()

    def renewed_behind_its_time() -> bool:
        mine = [e for e in changes if e.key.endswith(one.broker.holder)]
        assert all(entry.value is not None for entry in mine)
        return len(mine) > 5 and asyncio.get_running_loop().time() - began > LEASE_S + 0.5

    await eventually(renewed_behind_its_time)
    assert one._shared.lease.held
    assert one.broker.holder in await two._shared.lease.alive()


@pytest.mark.needs_rights
async def test_a_lease_that_is_given_up_is_known_to_be_at_once(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    await one._shared.lease.hold()
    holder, ended = one.broker.holder, asyncio.Event()

    def changed(entry: Entry) -> None:
        if entry.key.endswith(holder) and entry.value is None:
            ended.set()

    await two.broker.bucket(BUCKET).watch("", changed)
    await one.close()
    async with asyncio.timeout(1):
        await ended.wait()
    assert holder not in await two._shared.lease.alive()


async def test_who_was_taken_for_dead_and_lives_is_told(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    told: list[int] = []
    unhook = one._shared.lease.on_lapse(lambda: told.append(1))
    await one._shared.lease.hold()
    await two.broker.calls.ask(alive_call(one.broker.holder), BURIED, timeout_s=1)
    assert told == [1]
    unhook()
    await two.broker.calls.ask(alive_call(one.broker.holder), BURIED, timeout_s=1)
    assert told == [1]


async def test_a_lease_that_was_lost_is_renewed_and_says_so() -> None:
    broker = MemoryBroker()
    async with await Fabric.over(broker, tenant="t") as fabric:
        lease, told = fabric._shared.lease, asyncio.Event()
        await lease.hold()
        lease.on_lapse(told.set)
        broker.disconnect()
        await eventually(lambda: not lease.held)
        with pytest.raises(LeaseLost) as lost:
            await lease.check()
        assert lost.value.facts["holder"] == broker.holder
        assert not lease.sure
        broker.reconnect()
        async with asyncio.timeout(5):
            await told.wait()
        await eventually(lambda: lease.held)
        assert not lease.sure  # nobody else's lease is judged by one whose own has just come back


async def test_a_process_that_was_held_up_for_longer_than_its_lease_says_so(real: Fabric) -> None:
    await real.watch_over()
    await real.session("chat-1").create()  # by the time of whose answer it has been renewed
    with capture_logs() as logs:
        time.sleep(LEASE_S + 0.6)  # noqa: ASYNC251  # as a handler does that computes for long
        held_up = await eventually(lambda: [each for each in logs if each["event"] == "process_held_up"])
    assert [each["for_s"] >= LEASE_S for each in held_up] == [True]


async def test_a_broker_that_stores_no_lease_serves_as_long_as_it_is_read_from() -> None:
    broker = MemoryBroker()
    async with await Fabric.over(broker, tenant="t") as fabric:
        lease = fabric._shared.lease
        await fabric.check_served()  # nothing is known yet
        await lease.hold()
        assert lease._task is not None
        lease._task.cancel()
        lease._renewed -= STORES_WITHIN_S + 1
        await fabric.check_served()  # as one that is full
        broker.disconnect()
        with pytest.raises(BrokerUnavailable, match="has stored nothing for"):
            await fabric.check_served()
        broker.reconnect()
