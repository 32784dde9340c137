"""What a dead process held is put in order: all of it, and once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from session_fabric import Fabric, Session
from session_fabric.memory import MemoryBroker
from session_fabric.mending import Mending
from session_fabric.parts import SERVICE, Parts
from session_fabric.run import Run
from session_fabric.warden import Warden
from session_fabric.words.errors import BrokerUnavailable, RunClosed, RunFenced, SessionGone, SessionNotFound
from session_fabric.writer import Identity
from structlog.testing import capture_logs

from tests.support.sessions import Fabrics

RUNS = 40


def mending(fabric: Fabric) -> Mending:
    shared = fabric._shared
    return Mending(
        shared.holdings, lambda place: Parts.of(shared.common, Identity(place.tenant, SERVICE), place.session)
    )


async def ends(session: Session) -> list[object]:
    return [e.body.get("code") for e in (await session.history(limit=1000)).events if e.type == "RUN_ERROR"]


async def test_all_runs_of_a_dead_process_end_once_whoever_and_however_many_see_to_it(fabrics: Fabrics) -> None:
    dead, one, two = [await fabrics.open() for _ in range(3)]
    sessions = [dead.session(f"chat-{number}") for number in range(RUNS)]

    async def begin(session: Session) -> Run:
        return await session.run("r1").__aenter__()

    runs = await asyncio.gather(*(begin(session) for session in sessions))
    await one.session(sessions[3].name).delete()  # nobody is told there, and the others are all the same
    holder = dead.broker.holder
    await asyncio.gather(mending(one).mend(holder), mending(two).mend(holder))
    del sessions[3]
    assert [await ends(one.session(session.name)) for session in sessions] == [["agent_lost"]] * (RUNS - 1)
    assert await one._shared.holdings.of(holder) == []
    for run in runs:
        with suppress(RunFenced, RunClosed, SessionGone, SessionNotFound):
            await run.text("stale")


class Waiting:
    """A mender for whom the broker is away, three times over."""

    left = 3

    async def holders(self) -> set[str]:
        return set()

    async def mend(self, holder: str) -> None:
        if self.left:
            self.left -= 1
            raise BrokerUnavailable(f"Away, {self.left}.")


async def test_what_cannot_be_put_in_order_yet_is_said_once(tenant: str) -> None:
    async with await Fabric.over(MemoryBroker(), tenant=tenant, participant="service:one") as fabric:
        shared = fabric._shared
        menders = Waiting(), Waiting()
        with capture_logs() as logs:
            await Warden(fabric.broker, shared.lease, menders, shared.absences)._mend("dead")
    assert [each.left for each in menders] == [0, 0]
    assert [event["code"] for event in logs if event["event"] == "not_mended_yet"] == ["broker_unavailable"]


async def test_mending_that_is_called_off_at_any_moment_leaves_nothing_unawaited(tenant: str) -> None:
    broker = MemoryBroker()
    async with (
        await Fabric.over(broker, tenant=tenant, participant="service:one") as one,
        await Fabric.over(broker.beside(), tenant=tenant, participant="agent:dead") as dead,
    ):
        places = [dead.session(f"none-{number}").place for number in range(RUNS)]
        for place in places:
            await dead._shared.holdings.enter(place, "floor", "default", {})
        turns, done = 0, False
        while not done:
            task = asyncio.create_task(mending(one).mend(dead.broker.holder))
            for _ in range(turns):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            turns += 1
        assert await one._shared.holdings.of(dead.broker.holder) == []
