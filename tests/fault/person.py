"""People on the SDK: they write, ask, answer, want the floor and claim runs, and try again as long as it takes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from random import Random
from typing import Any, Final

from session_fabric import Event, Fabric, Session
from session_fabric.words.errors import (
    AlreadyAnswered,
    FabricError,
    Refused,
    RequestClosed,
    RunClosed,
    RunExists,
    RunFenced,
    Unavailable,
)

from tests.fault.process import Part
from tests.fault.run_rules import run_of
from tests.fault.worker import Plan
from tests.system.agent import answer, token

_NOTE_S: Final = 0.25
_ASK_S: Final = 4.0
_CONTEST_S: Final = 5.0
_AGAIN_S: Final = 0.2
_RACE_TOKENS: Final = 40
DESK: Final = "desk"


class Person:
    """One process of them: a user, an operator, and an agent that claims runs without a pool."""

    def __init__(self, part: Part, fabric: Fabric) -> None:
        self.part = part
        host = part.host
        self.user, self.operator, self.agent = (f"{role}:{host}" for role in ("user", "operator", "agent"))
        self._views = {who: fabric.view(participant=who) for who in (self.user, self.operator, self.agent)}
        self._rng = Random(f"{part.start.seed} {part.who}")
        self._count = 0
        self.quiet = asyncio.Event()
        self.acting: set[asyncio.Task[None]] = set()

    def session(self, name: str, who: str) -> Session:
        return self._views[who].session(name)

    def id(self, what: str) -> str:
        self._count += 1
        return f"{what}-{self.part.who}-{self._count}"

    async def pause(self, about_s: float) -> bool:
        """Wait for about as long; say whether to go on."""
        if not self.quiet.is_set():
            try:
                async with asyncio.timeout(about_s * self._rng.uniform(0.5, 1.5)):
                    await self.quiet.wait()
            except TimeoutError:
                return True
        return False

    async def stubborn(
        self, what: str, id: str, session: str, who: str, call: Callable[[], Awaitable[Any]], about: str | None = None
    ) -> Any:
        """Call again while the broker is away; note what came of all of it. Return None where it was refused."""
        number, tries = self.part.calls.invoked(what, id, session, who, about), 0
        while True:
            tries += 1
            try:
                got = await call()
            except (Unavailable, TimeoutError):
                await asyncio.sleep(_AGAIN_S)
                continue
            except AlreadyAnswered as error:
                # What an earlier try had stored is this one's own, if it is not said that it is a duplicate.
                mine = error.facts.get("by") == who and tries > 1
                self.part.calls.done(number, "unknown" if mine else "refused", winner=error.facts.get("by"))
                return None
            except (RequestClosed, RunExists, RunClosed, Refused) as error:
                unsure = tries > 1 or isinstance(error, RunFenced)
                self.part.calls.done(number, "unknown" if unsure else "refused", winner=None)
                self.part.journal.note("refused", call=number, code=error.code)
                return None
            offset = getattr(got, "offset", None)
            self.part.calls.done(number, "ok", offset=None if offset is None else str(offset))
            return got

    # --- what they do of themselves -------------------------------------------------------------------

    async def notes(self, name: str) -> None:
        session = self.session(name, self.user)
        while await self.pause(_NOTE_S):
            id = self.id("note")
            body = {"type": "app.note", "value": id}
            await self.stubborn("note", id, name, self.user, lambda: session.append(body, id=id))  # noqa: B023

    async def asks(self, name: str) -> None:
        session = self.session(name, self.user)
        while await self.pause(_ASK_S):
            id = self.id("ask")
            plan = Plan(self._rng.randint(10, 90), 0.02, self._rng.choice(["", "", "", "approval", "tool"]))
            self.part.journal.note("plan", run=run_of(id), text=plan.answer())
            body = {"type": "message.user", "message": {"id": id, "role": "user", "content": plan.text()}}
            await self.stubborn("ask", id, name, self.user, lambda: session.append(body, id=id))  # noqa: B023

    async def contests(self, name: str) -> None:
        """Have all people want the same, now and then: a run that is to be claimed, a floor that is to be had."""
        session = self.session(name, self.operator)
        while await self.pause(_CONTEST_S):
            if self._rng.random() < 0.5:
                run = self.id("race")
                self.part.journal.note("plan", run=run, text=answer(_RACE_TOKENS))
                await _retry(lambda: session.append({"type": "app.race", "run": run}, id=f"{run}-on"))  # noqa: B023
            else:
                offer, floor = self.id("offer"), session.floor(DESK)
                await _retry(lambda: floor.offer("role:operator", deadline_ms=5000, id=offer))  # noqa: B023

    # --- and what they do about what happens ------------------------------------------------------------

    async def heeds(self, name: str, group: asyncio.TaskGroup) -> None:
        """Follow a session, and do what it gives to do."""
        async with aclosing(self.session(name, self.operator).follow("start")) as events:
            async for event in events:
                # Who is asked answers until the end: a run waits for it.
                if event.type == "input.requested" or not self.quiet.is_set():
                    for act in self._acts(name, event):
                        task = group.create_task(act)
                        self.acting.add(task)
                        task.add_done_callback(self.acting.discard)

    def _acts(self, name: str, event: Event) -> list[Any]:
        match event.type:
            case "input.requested":
                return [self._answers(name, str(event.id), {"approved": True})]
            case "handoff.offered":
                return [self._accepts(name, str(event.body["request"]))]
            case "app.race":
                return [self._races(name, str(event.body["run"]))]
            case "RUN_STARTED" if _by_chance(str(event.run), self.part.host, 0.05):
                return [self._cancels(name, str(event.run))]
            case _:
                return []

    async def _answers(self, name: str, request: str, body: Mapping[str, Any]) -> None:
        session, id = self.session(name, self.operator), self.id("answer")
        await self.stubborn(
            "answer", id, name, self.operator, lambda: session.answer(request, body, id=id, device=id), about=request
        )

    async def _accepts(self, name: str, request: str) -> None:
        floor = self.session(name, self.operator).floor(DESK)
        call = self.stubborn(
            "floor", self.id("floor"), name, self.operator, lambda: floor.accept(request), about=request
        )
        if await call is not None:
            await _retry(floor.give_back)

    async def _races(self, name: str, run: str) -> None:
        session = self.session(name, self.agent)
        number = self.part.calls.invoked("claim", run, name, self.agent, about=run)
        entered = False
        try:
            async with session.run(run) as writing, writing.message(f"m-{run}") as message:
                entered = True
                self.part.calls.done(number, "ok", offset=str(writing.claim))
                for n in range(_RACE_TOKENS):
                    await message.text(token(n))
                    await asyncio.sleep(0.02)
        except (RunExists, RunClosed) as error:
            if not entered:
                self.part.calls.done(number, "refused")
            self.part.journal.note("race lost", run=run, code=error.code)
        except FabricError as error:
            if not entered:
                self.part.calls.done(number, "unknown")
            self.part.journal.note("race over", run=run, code=error.code)

    async def _cancels(self, name: str, run: str) -> None:
        session, id = self.session(name, self.user), self.id("cancel")
        await self.stubborn("cancel", id, name, self.user, lambda: session.control("cancel", run=run, id=id))


def _by_chance(what: str, who: str, chance: float) -> bool:
    digest = hashlib.sha256(f"{what} {who}".encode()).digest()
    return digest[0] / 256 < chance


async def _retry(call: Callable[[], Awaitable[Any]]) -> Any:
    """Call until the broker is there; None where it is refused."""
    while True:
        try:
            return await call()
        except (Unavailable, TimeoutError):
            await asyncio.sleep(_AGAIN_S)
        except Refused:
            return None


async def be(part: Part) -> None:
    """Live until told to be quiet; end when all that was begun is through."""
    async with Fabric.connect(part.broker, participant=f"user:{part.host}", timeout_s=60.0) as fabric:
        await fabric.watch_over()
        person = Person(part, fabric)
        await part.ready()
        async with asyncio.TaskGroup() as listening, asyncio.TaskGroup() as acting:
            heeding = [listening.create_task(person.heeds(name, acting)) for name in part.sessions]
            doing = [
                acting.create_task(task(name))
                for name in part.sessions
                for task in (person.notes, person.asks, person.contests)
            ]
            await part.until_told("quiet")
            person.quiet.set()
            await asyncio.gather(*doing, *person.acting)
            part.say({"quiet": True})
            await part.until_told("leave")
            for task in heeding:
                task.cancel()
