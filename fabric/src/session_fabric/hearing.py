"""How a run hears what is asked of it, and answers each request once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from session_fabric.authoring import Steer
from session_fabric.follow import RecordsOnly
from session_fabric.outcomes import settle
from session_fabric.parts import Parts
from session_fabric.ports import Wanted
from session_fabric.rules.controls import decide, leaving_ms
from session_fabric.run import Run
from session_fabric.words import measures
from session_fabric.words.closing import Closed
from session_fabric.words.errors import AlreadyAnswered
from session_fabric.words.events import (
    CONTROL_ACCEPTED,
    CONTROL_EXPIRED,
    CONTROL_OVERDUE,
    CONTROL_REJECTED,
    CONTROL_REQUESTED,
    CONTROLS,
    WHISPER,
    WHISPERS,
    control_outcome,
)
from session_fabric.words.wire import Record

# Of what was asked in the session before the run began: what is older, nobody waits for.
MOST_BEFORE: Final = 1000
MOST_WAITING: Final = 100


class Hearing:
    """One run's ear. `run` is its life; what is asked comes in the session's order."""

    def __init__(self, parts: Parts, run: Run) -> None:
        self._parts = parts
        self._run = run
        self._asked: asyncio.Queue[Record] = asyncio.Queue(MOST_WAITING)  # more at once expire

    async def run(self) -> None:
        follower = self._parts.follower(_Asked(self._asked), after=self._run.claim, kinds=("ev",))

        async def follow() -> None:
            await follower.run()
            if self._parts.broker.closed:
                raise Closed  # to the author, who may be waiting for something else

        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow())
            try:
                for record in await self._asked_before():
                    await self._hear(record)
                while True:
                    await self._hear(await self._asked.get())
            finally:
                following.cancel()

    async def _asked_before(self) -> list[Record]:
        """Return what was asked of the run before it began, and what was whispered to whoever works here."""
        return [*await self._before(WHISPERS), *await self._before(CONTROLS)]

    async def _before(self, name: str) -> list[Record]:
        log, record = self._parts.broker.log, await self._parts.open()
        newest = await log.newest(record.stretch, Wanted("ev", name))
        if newest is None:
            return []
        back = log.read_back(
            record.stretch, before=self._run.claim.sequence, limit=MOST_BEFORE, wanted=[Wanted("ev", name)]
        )
        async with aclosing(back) as batches:
            return [found async for records in batches for found in records if found.sequence > record.begin]

    async def _hear(self, record: Record) -> None:
        run, body = self._run, record.event().body
        if record.type == WHISPER:
            if body.get("run") in (None, run.id):
                run.steer(Steer(str(body.get("text", "")), body, record.actor, whispered=True))
            return
        if body.get("run") != run.id:
            return
        async with run.answering:
            accepted = await self._answer(record, body)
        if accepted == "stop":
            run.stop()
            deadline_ms = leaving_ms(body.get("deadline_ms"))
            if not await run.left(deadline_ms / 1000):
                overdue = {"type": CONTROL_OVERDUE, "request": record.id, "action": body.get("action"), "run": run.id}
                await run.force_end(overdue)

    async def _answer(self, asked: Record, body: Mapping[str, Any]) -> str:
        """Write the request's outcome; return what is to be done."""
        run, action = self._run, str(body.get("action"))
        now_ms = time.time_ns() // 1_000_000
        verdict, reason = decide(
            action, asked.ts, body.get("deadline_ms"), now_ms, leaving=run.leaving, steerable=run.steerable
        )
        given = body.get("body")
        details: Mapping[str, Any] = given if isinstance(given, dict) else {}
        steer = Steer(str(details.get("text", "")), details, asked.actor)
        # Whoever reads that it was accepted may let the run go on at once, so the author has it before that is
        # stored. What was asked before the run began may have been heeded by who had the run before.
        early = verdict == "steer" and asked.sequence > run.claim.sequence
        if early and not run.steer(steer):
            verdict, reason, early = "reject", "too many wait", False
        type = {"expire": CONTROL_EXPIRED, "reject": CONTROL_REJECTED}.get(verdict, CONTROL_ACCEPTED)
        answer = {"type": type, "request": asked.id, "action": action, "run": run.id}
        answer |= {"reason": reason} if reason else {}
        if verdict == "stop" and not run.agree_to_stop():
            return ""
        try:
            await self._parts.persist(lambda: self._settle(asked.id, answer))
            metrics = self._parts.common.metrics
            metrics.count(measures.CONTROLS, type.rpartition(".")[2])
            metrics.observe(measures.CONTROL, max(0, time.time_ns() // 1_000_000 - asked.ts) / 1000)
        except AlreadyAnswered:
            # It expired this moment; or who had the run before us has accepted it, and died before stopping.
            if verdict == "stop" and await self._was_accepted(asked.id):
                return verdict
            run.disagree()
            if early:
                run.withdraw(steer)
            return ""
        if verdict == "steer" and not early:
            run.steer(steer)
        return verdict

    async def _was_accepted(self, request: str) -> bool:
        to = (await self._parts.open()).stretch
        outcome = await self._parts.broker.log.newest(to, Wanted("own", control_outcome(request)))
        return outcome is not None and outcome.type == CONTROL_ACCEPTED

    async def _settle(self, request: str, answer: Mapping[str, Any]) -> None:
        await settle(self._parts, control_outcome(request), answer, id=f"{request[:110]}.outcome", spare=True)


class _Asked(RecordsOnly):
    """Keeps what is asked of runs and whispered to them, each once, by its sequence."""

    def __init__(self, asked: asyncio.Queue[Record]) -> None:
        self._asked = asked
        self._seen: set[int] = set()

    def records(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if record.parts.name not in (CONTROLS, WHISPERS) or record.type not in (CONTROL_REQUESTED, WHISPER):
                continue
            if record.sequence not in self._seen and not self._asked.full():
                self._seen.add(record.sequence)
                self._asked.put_nowait(record)
