"""A request to a run has one outcome in the log, however many answer it at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from session_fabric import Fabric, Session
from session_fabric.deadlines import Deadlines
from session_fabric.hearing import Hearing
from session_fabric.opening import OpenRun
from session_fabric.outcomes import Lost, settle
from session_fabric.run import Takeover
from session_fabric.words.errors import RunClosed, RunFenced
from session_fabric.words.events import CONTROL_OUTCOMES, RUN_OVER

from tests.fabric.test_deadlines import SOON_MS, orphan, watching
from tests.fabric.test_takeover import newest
from tests.support.sessions import Fabrics, stored
from tests.support.waiting import eventually

# So long that nothing expires while a test runs.
LATER_MS = 600_000


async def outcomes(session: Session, request: str) -> list[str]:
    events = [event for event in await stored(session) if event.type in CONTROL_OUTCOMES]
    return [event.type for event in events if event.body["request"] == request]


async def has_outcome(session: Session, request: str) -> None:
    await eventually(lambda: outcomes(session, request), 30.0)


async def test_an_author_who_is_overtaken_by_the_deadline_adds_nothing_and_does_not_stop(
    fabric: Fabric, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired, write = asyncio.Event(), Hearing._settle

    async def late(self: Hearing, request: str, answer: Mapping[str, Any]) -> None:
        await expired.wait()
        await write(self, request, answer)

    monkeypatch.setattr(Hearing, "_settle", late)
    async with watching(fabric), session.run("r1") as run:
        await session.control("cancel", run="r1", deadline_ms=SOON_MS, id="c1")
        await has_outcome(session, "c1")
        expired.set()
        # Requests are answered in their order: with this one the author is through with the other.
        await session.control("steer", run="r1", body={"text": "Shorter"}, deadline_ms=LATER_MS, id="c2")
        await has_outcome(session, "c2")
        assert await outcomes(session, "c1") == ["control.expired"]
    assert not run.cancelled


async def test_a_deadline_that_passes_while_the_author_answers_adds_nothing(
    fabric: Fabric, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(*_: object) -> bool:
        return False  # as seen a moment before the author's answer was stored

    monkeypatch.setattr(Deadlines, "_is_settled", not_yet)
    async with watching(fabric):
        async with session.run("r1") as run:
            await session.control("cancel", run="r1", deadline_ms=SOON_MS, id="c1")
            await asyncio.Event().wait()
        assert run.cancelled
        (answer,) = await outcomes(session, "c1")
        # Of a run that is nobody's, asked later and for longer: when it has expired, the other's time was over.
        await session.control("cancel", run="r2", deadline_ms=2 * SOON_MS, id="c2")
        await has_outcome(session, "c2")
    assert await outcomes(session, "c1") == [answer]


async def test_of_those_who_answer_a_request_at_once_one_counts_and_the_others_are_told_who(fabrics: Fabrics) -> None:
    sessions = [(await fabrics.open(f"agent:a{n}")).session("chat-1") for n in range(3)]
    await sessions[0].create()

    async def answer(who: int, request: str) -> str:
        kind = sorted(CONTROL_OUTCOMES)[who]
        body = {"type": kind, "request": request, "action": "cancel", "run": "r1"}
        try:
            await settle(sessions[who]._parts, f"control/{request}", body, id=f"{request}.{who}", spare=True)
        except Lost as lost:
            return lost.winner.type
        return kind

    for n in range(30):
        said = await asyncio.gather(*(answer(who, f"c{n}") for who in range(3)))
        (counts,) = await outcomes(sessions[0], f"c{n}")
        assert said == [counts] * 3


async def test_a_stop_of_an_orphaned_run_that_is_taken_over_meanwhile_is_answered_once_and_ends_it_once(
    fabrics: Fabrics,
) -> None:
    one, two = await fabrics.open("agent:writer"), await fabrics.open("agent:other")
    async with watching(one), watching(two):
        for n in range(10):
            session, other = one.session(f"chat-{n}"), two.session(f"chat-{n}")
            await orphan(session)
            taken = OpenRun(other._parts, "r1", takeover=Takeover(await newest(session, "r1"), 2, True))

            async def go_on(taken: OpenRun = taken) -> None:
                with suppress(RunClosed, RunFenced):
                    async with taken:
                        await asyncio.Event().wait()

            async with asyncio.TaskGroup() as group:
                group.create_task(go_on())
                group.create_task(session.control("cancel", run="r1", deadline_ms=LATER_MS, id="c1"))
            await has_outcome(session, "c1")
            types = Counter(event.type for event in await stored(session))
            assert await outcomes(session, "c1") == ["control.accepted"]
            assert sum(types[kind] for kind in RUN_OVER) == 1
