"""What nobody answers in time ends by itself, whoever has died meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from session_fabric import Event, Fabric, Session
from session_fabric.counting import NOT_COUNTED, Metrics, NoMetrics
from session_fabric.deadlines import Deadlines
from session_fabric.outcomes import settle
from session_fabric.parts import Parts
from session_fabric.rules.policy import Policy
from session_fabric.rules.routing import run_of_input
from session_fabric.words.errors import AlreadyAnswered, RequestClosed, RunClosed
from session_fabric.words.events import CONTROL_OUTCOMES
from session_fabric.words.measures import DEADLINES, Counter
from session_fabric.words.names import new_id
from session_fabric.writer import Appended, parse_body

from tests.support.servers import NatsNode
from tests.support.sessions import Fabrics, api, said, stored, types
from tests.support.waiting import eventually

APPROVAL = {"type": "input.requested", "run": "r1", "kind": "approval", "title": "Sure?", "to": None}
TOOL = {"type": "tool.requested", "run": "r1", "tool": "read_selection", "args": {}, "to": None}
SOON_MS = 300


@asynccontextmanager
async def watching(fabric: Fabric, *, metrics: Metrics = NOT_COUNTED, **more: Any) -> AsyncIterator[asyncio.Task[None]]:
    """See to the tenant's deadlines. Cancelled at the end."""
    common = fabric._shared.common._replace(metrics=metrics)
    task = asyncio.create_task(Deadlines(common, tenant=fabric.tenant, **more).run())
    try:
        await asyncio.wait_for(_subscribed(fabric), 10)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _subscribed(fabric: Fabric) -> None:
    """Wait until what is stored from now on is seen to: an event that has nothing to wait for passes."""
    session = fabric.view(participant="service:test").session(new_id("probe-"))
    await session.create()
    await eventually(lambda: _expires_at_once(session))
    await session.delete()


async def _expires_at_once(session: Session) -> bool:
    await ask(session, {**TOOL, "deadline_ms": 1}, new_id())
    return any(e.type == "tool.expired" for e in await stored(session))


async def ask(session: Session, body: dict[str, Any], id: str) -> Appended:
    """Ask without a run that waits: as an agent that has died since."""
    return await session.append_own({**body, "request": id}, id=id)


async def outcome(session: Session, *kinds: str) -> Event:
    async def there() -> Event | None:
        return next((e for e in await stored(session) if e.type in kinds), None)

    return await eventually(there)


async def test_a_request_whose_agent_is_gone_expires(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await session.create()
        await ask(session, {**TOOL, "deadline_ms": SOON_MS}, "q1")
        expired = await outcome(session, "tool.expired")
    asked = next(e for e in await stored(session) if e.type == "tool.requested")
    assert expired.body == {"type": "tool.expired", "request": "q1", "run": "r1", "reason": "deadline"}
    assert expired.actor == "service:fabric"
    assert expired.ts - asked.ts >= SOON_MS - 5
    with pytest.raises(RequestClosed):
        await session.answer("q1", "late")


async def test_a_request_with_a_default_is_answered_with_it(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await session.create()
        await ask(session, {**APPROVAL, "deadline_ms": SOON_MS, "default": {"approved": False}}, "q1")
        answered = await outcome(session, "input.answered")
    assert answered.body == {
        "type": "input.answered",
        "request": "q1",
        "run": "r1",
        "by": "service:fabric",
        "device": None,
        "body": {"approved": False},
        "defaulted": True,
    }


async def test_an_answer_in_time_stays_the_only_outcome(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await session.create()
        await ask(session, {**TOOL, "deadline_ms": SOON_MS}, "q1")
        await ask(session, {**TOOL, "deadline_ms": SOON_MS}, "q2")
        await session.answer("q1", "in time")
        assert (await outcome(session, "tool.expired")).body["request"] == "q2"
        with pytest.raises(AlreadyAnswered):
            await session.answer("q1", "again")
    assert types(await stored(session)).count("tool.expired") == 1


async def test_a_control_that_no_run_answers_expires(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await session.control("cancel", run="r1", deadline_ms=SOON_MS, id="c1")
        expired = await outcome(session, "control.expired")
    assert expired.body == {
        "type": "control.expired",
        "request": "c1",
        "action": "cancel",
        "run": "r1",
        "reason": "deadline",
    }


async def test_a_control_that_was_answered_does_not_expire(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await session.control("cancel", run="r1", deadline_ms=SOON_MS, id="c1")
        await settle(_parts(session), "control/c1", {"type": "control.accepted", "request": "c1", "run": "r1"})
        await session.control("cancel", run="r1", deadline_ms=SOON_MS, id="c2")
        assert (await outcome(session, "control.expired")).body["request"] == "c2"


class Looks(NoMetrics):
    """Counts how often something was looked at that has to wait."""

    waits = 0

    def count(self, what: Counter, value: str = "", by: float = 1) -> None:
        self.waits += what is DEADLINES and value == "waits"


async def orphan(session: Session) -> None:
    """Have a run `r1` whose agent is gone, and that asks for something."""
    await session.create()
    claim = await settle(_parts(session), "r1", {"type": "RUN_STARTED", "run": "r1", "pool": "default"})
    await ask(session, TOOL, "q1")
    lost = {"type": "run.orphaned", "run": "r1", "agent": "agent:writer", "holder": "h1", "generation": 1}
    await settle(_parts(session), "r1", lost, expect=claim.offset.sequence)


async def test_a_run_that_nobody_has_is_stopped_at_once(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await orphan(session)
        asked = await session.control("interrupt", run="r1", deadline_ms=600_000, id="c1")
        accepted = await asyncio.wait_for(session.outcome(asked), 60)
        end = await outcome(session, "RUN_FINISHED")
        await outcome(session, "tool.expired")
    assert accepted.body == {"type": "control.accepted", "request": "c1", "action": "interrupt", "run": "r1"}
    assert (end.run, end.body["outcome"]) == ("r1", {"type": "cancelled"})
    assert accepted.offset < end.offset
    with pytest.raises(RunClosed):
        await session.control("cancel", run="r1")


async def test_a_run_that_is_orphaned_after_it_was_asked_to_stop_is_stopped(fabric: Fabric, session: Session) -> None:
    looks = Looks()
    async with watching(fabric, metrics=looks):
        await session.create()
        claim = await settle(_parts(session), "r1", {"type": "RUN_STARTED", "run": "r1", "pool": "default"})
        before = looks.waits
        asked = await session.control("interrupt", run="r1", id="c1")
        await eventually(lambda: looks.waits > before)  # it was looked at while its process seemed to be at work
        lost = {"type": "run.orphaned", "run": "r1", "agent": "agent:writer", "holder": "h1", "generation": 1}
        await settle(_parts(session), "r1", lost, expect=claim.offset.sequence)
        assert (await asyncio.wait_for(session.outcome(asked), 60)).type == "control.accepted"
        await outcome(session, "RUN_FINISHED")


async def test_a_stop_that_was_accepted_by_who_died_of_it_ends_the_run(fabric: Fabric, session: Session) -> None:
    await orphan(session)
    accepted = {"type": "control.accepted", "request": "c1", "action": "cancel", "run": "r1"}
    await settle(_parts(session), "control/c1", accepted)
    async with watching(fabric):
        await session.control("cancel", run="r1", deadline_ms=600_000, id="c1")
        await outcome(session, "RUN_FINISHED")
    assert types(await stored(session)).count("control.accepted") == 1


async def test_what_else_is_asked_of_a_run_that_nobody_has_waits_for_its_next_agent(
    fabric: Fabric, session: Session
) -> None:
    async with watching(fabric):
        await orphan(session)
        await session.control("steer", run="r1", body={"text": "Shorter"}, deadline_ms=SOON_MS, id="c1")
        assert (await outcome(session, *CONTROL_OUTCOMES)).type == "control.expired"
    assert not {"RUN_FINISHED", "RUN_ERROR"} & set(types(await stored(session)))


def _parts(session: Session) -> Parts:
    return session._parts


async def impatient(session: Session) -> None:
    """Have the session's messages expire after a second."""
    await session.create()
    parts = _parts(session)
    await parts.directory.change(
        parts.place, lambda record: record.model_copy(update={"policy": Policy(answer_within_s=1)})
    )


async def test_a_message_that_no_agent_takes_expires(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await impatient(session)
        offset, _ = await session.append(said("Hello"), id="e1")
        expired = await outcome(session, "message.expired")
    run = run_of_input("e1")
    assert expired.body == {
        "type": "message.expired",
        "message": "m1",
        "input": str(offset),
        "run": run,
        "reason": "no_agent",
    }
    assert expired.run == run
    with pytest.raises(RunClosed):
        async with session.run(run):
            pass


async def test_a_message_that_an_agent_took_does_not_expire(fabric: Fabric, session: Session) -> None:
    async with watching(fabric):
        await impatient(session)
        await session.append(said("Hello"), id="e1")
        async with session.run(run_of_input("e1")) as run:
            await session.append(said("Anybody?", "m2"), id="e2")
            assert (await outcome(session, "message.expired")).body["message"] == "m2"
            await run.text("Hello")
    assert types(await stored(session)).count("message.expired") == 1


@pytest.mark.needs_rights
async def test_a_message_waits_while_a_person_has_the_floor(fabric: Fabric, session: Session) -> None:
    asked: list[str] = []

    async def holds(parts: Parts, pool: str) -> bool:
        asked.append(pool)
        return pool == "billing"

    async with watching(fabric, somebody_holds=holds):
        await impatient(session)
        await session.append({**said("Hello"), "pool": "billing"}, id="e1")
        await session.append(said("Hello", "m2"), id="e2")
        assert (await outcome(session, "message.expired")).body["message"] == "m2"
        await eventually(lambda: sorted(set(asked)) == ["billing", "default"])
    assert types(await stored(session)).count("message.expired") == 1


@pytest.mark.needs_rights
async def test_a_stop_waits_as_long_as_the_message_that_it_stops(fabric: Fabric, session: Session) -> None:
    asked: list[str] = []

    async def holds(parts: Parts, pool: str) -> bool:
        asked.append(pool)
        return pool == "billing"

    async with watching(fabric, somebody_holds=holds):
        await impatient(session)
        await session.append({**said("Hello"), "pool": "billing"}, id="e1")  # waits in a queue
        await session.append(said("Hello", "m2"), id="e2")  # expires
        for number in (1, 2, 3):  # the third is of nothing
            await session.control("cancel", run=run_of_input(f"e{number}"), id=f"c{number}")
        await eventually(lambda: _expired(session, {"c2", "c3"}))
        await eventually(lambda: asked.count("billing") == 2)  # for the message, and for its stop
    assert await _expired(session, {"c2", "c3"})
    async with session.run(run_of_input("e1")) as run:
        await asyncio.Event().wait()
    assert run.cancelled


async def _expired(session: Session, controls: set[str]) -> bool:
    return {e.body["request"] for e in await stored(session) if e.type == "control.expired"} == controls


async def test_an_offer_that_nobody_took_is_handed_to_who_ends_it(fabric: Fabric, session: Session) -> None:
    ended: asyncio.Queue[tuple[Parts, Event]] = asyncio.Queue()

    async def expire(parts: Parts, offered: Event) -> None:
        ended.put_nowait((parts, offered))

    offer = {"type": "handoff.offered", "pool": "default", "to": "role:operator", "deadline_ms": SOON_MS}
    async with watching(fabric, expire_offer=expire):
        await session.create()
        parts = _parts(session)
        draft = parts.writer.draft(parse_body({**offer, "request": "o1"}), "ev", "/request", "o1")
        await parts.broker.log.publish((await parts.open()).stretch, draft)
        there, offered = await asyncio.wait_for(ended.get(), 10)
    assert (there.place, there.identity.participant) == (session.place, "service:fabric")
    assert (offered.id, offered.offset.segment) == ("o1", (await parts.open()).stretch.segment)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
async def test_when_one_who_watches_is_gone_another_goes_on(fabrics: Fabrics, killed: bool) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    session = two.session("chat-1")
    await session.create()
    async with watching(two, ack_wait_s=2.0):
        async with watching(one, ack_wait_s=2.0):
            for n in range(20):
                await ask(session, {**TOOL, "deadline_ms": 1500}, f"q{n}")
            if killed:
                await one.broker.close()  # it has no word to say any more
        await one.close()
        await eventually(lambda: _all_expired(session, 20), 20)
    assert types(await stored(session)).count("tool.expired") == 20


async def _all_expired(session: Session, count: int) -> bool:
    return types(await stored(session)).count("tool.expired") >= count


async def test_what_was_asked_while_nobody_watched_is_seen_to_when_somebody_does(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    session = two.session("chat-1")
    await session.create()
    async with watching(one):
        pass
    await one.close()
    await ask(session, {**TOOL, "deadline_ms": 1}, "q1")
    async with watching(two):
        assert (await outcome(session, "tool.expired")).body["request"] == "q1"


async def test_events_of_a_deleted_session_keep_nobody_from_their_deadlines(fabric: Fabric, session: Session) -> None:
    gone = fabric.session("gone")
    async with watching(fabric):
        await gone.create()
        await ask(gone, {**TOOL, "deadline_ms": SOON_MS}, "q1")
        await gone.delete()
        await session.create()
        await ask(session, {**TOOL, "deadline_ms": SOON_MS}, "q1")
        await outcome(session, "tool.expired")
    assert await fabric.session("gone").create() is not None
    assert types(await stored(fabric.session("gone"))) == ["session.created"]


@pytest.mark.needs_rights
async def test_a_defect_with_one_event_keeps_no_other_from_its_deadline(fabric: Fabric, session: Session) -> None:
    async def broken(parts: Parts, pool: str) -> bool:
        raise ZeroDivisionError

    async with watching(fabric, somebody_holds=broken):
        await impatient(session)
        await session.append(said("Hello"), id="e1")
        await ask(session, {**TOOL, "deadline_ms": 1500}, "q1")
        await outcome(session, "tool.expired")
    assert "message.expired" not in types(await stored(session))


# --- on a server of one's own ----------------------------------------------------------------------------


async def test_one_subscription_sees_to_all_tenants_and_no_token_passes_through_it(own_server: NatsNode) -> None:
    async with (
        Fabric.connect(own_server.url, tenant="acme", streams=1) as acme,
        Fabric.connect(own_server.url, tenant="globex", streams=1) as globex,
    ):
        task = asyncio.create_task(Deadlines(acme._shared.common).run())
        try:
            await _subscribed(globex)
            before = await _delivered(acme)
            session = globex.session("chat-1")
            async with session.run("r1", window_s=0) as run:
                for n in range(100):
                    await run.text(f"{n} ")
                    await run.stored()
            await ask(session, {**TOOL, "deadline_ms": SOON_MS}, "q1")
            await outcome(session, "tool.expired")
            assert await _delivered(acme) - before <= 5
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _delivered(fabric: Fabric) -> int:
    """Return how many deliveries the broker has made to those who see to deadlines."""
    broker = api(fabric)
    streams = [str(info["config"]["name"]) for info in (await broker.api.call("STREAM.LIST", {"offset": 0}))["streams"]]
    total = 0
    for stream in streams:
        for info in (await broker.api.call(f"CONSUMER.LIST.{stream}", {"offset": 0})).get("consumers") or []:
            if "sf-deadlines" in info["name"]:
                total += info["delivered"]["consumer_seq"]
    assert total, "nobody is subscribed"
    return total


async def test_deadlines_hold_through_the_end_of_the_broker(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, streams=1) as fabric, watching(fabric):
        session = fabric.session("chat-1")
        await session.create()
        await ask(session, {**TOOL, "deadline_ms": 1000}, "q1")
        await ask(session, {**TOOL, "deadline_ms": 4000}, "q2")
        own_server.kill()
        await own_server.restart()
        await eventually(lambda: _all_expired(session, 2), 60)
        assert types(await stored(session)).count("tool.expired") == 2
