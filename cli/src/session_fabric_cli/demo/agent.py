"""The demo agent's loop: take an input, answer it in a run, acknowledge it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from session_fabric import Event, Fabric, RunFailed, Session, Subscription, Work
from session_fabric.words.errors import FabricError, RunClosed, RunExists, SessionGone, SessionNotFound, Unavailable

from session_fabric_cli.demo import inputs
from session_fabric_cli.demo.writers import Answerer

log = structlog.get_logger()

DURABLE: Final = "demo-agent"
PARTICIPANT: Final = "agent:docs"
# How long an input stays with a worker that has died before another one gets it.
ACK_WAIT_S: Final = 10.0
# How many inputs are taken at once; further ones wait at the broker.
CONCURRENT: Final = 16
_FETCH_S: Final = 5.0
_RETRY_S: Final = 0.5
_HISTORY: Final = 50


class DemoAgent:
    """Answers every input of a tenant once, those of one session in their order, several sessions at a time."""

    def __init__(self, fabric: Fabric, answerer: Answerer) -> None:
        self._fabric = fabric
        self._answerer = answerer
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._taken: set[tuple[str, str]] = set()
        self._free = asyncio.Semaphore(CONCURRENT)

    async def serve(self, ready: Callable[[], None]) -> None:
        """Work until cancelled; `ready` is called when inputs are waited for.

        Cancelled: runs in progress end with an error that says so.
        """
        async with self._fabric.subscribe(durable=DURABLE, kind="in", ack_wait_s=ACK_WAIT_S) as inbox:
            ready()
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._free.acquire()
                    work = await self._next(inbox)
                    group.create_task(self._take(work), name=f"answer in {work.session}")

    async def _next(self, inbox: Subscription) -> Work:
        while True:
            try:
                for work in await inbox.fetch(1, _FETCH_S):
                    return work
            except Unavailable as error:
                log.warning("inbox_unavailable", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _take(self, work: Work) -> None:
        key = (work.session, work.event.id)
        try:
            # While the broker was away an input that is being answered may have come again.
            if key not in self._taken:
                self._taken.add(key)
                try:
                    await self._work(work)
                finally:
                    self._taken.discard(key)
        except FabricError as error:
            log.warning("input_left", session=work.session, code=error.code, error=str(error))
        finally:
            self._free.release()

    async def _work(self, work: Work) -> None:
        async with _kept(work), self._turn(work.session):
            question = inputs.question_of(work.event)
            if question is not None:
                await self._answer(self._fabric.session(work.session), work.event, question, work.attempts)
        await work.ack()

    async def _answer(self, session: Session, event: Event, question: str, attempts: int) -> None:
        for run_id in inputs.run_ids(event, attempts):
            try:
                said = await session.messages(limit=_HISTORY)
                before = inputs.turns_before(said.messages, event)
                async with session.run(run_id) as run:
                    await self._answerer.answer(run, question, before)
            except RunExists:
                await session.abandon(run_id)  # its worker died in the middle
                continue
            except (RunClosed, SessionGone, SessionNotFound):
                pass  # answered by a worker that died before it could say so; or nobody waits for it any more
            except RunFailed as error:
                log.warning("answer_failed", session=session.name, run=run_id, error=str(error))
            except FabricError:
                raise
            except Exception:
                # The run has ended as failed, which the session's participants see. The next input is another matter.
                log.exception("answer_failed", session=session.name, run=run_id)
            return

    @asynccontextmanager
    async def _turn(self, session: str) -> AsyncIterator[None]:
        """Wait until earlier inputs of the session are done."""
        lock = self._turns.setdefault(session, asyncio.Lock())
        self._waiting[session] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[session] -= 1
            if not self._waiting[session]:
                del self._waiting[session], self._turns[session]


@asynccontextmanager
async def _kept(work: Work) -> AsyncIterator[None]:
    """Keep an input from coming again while it is worked on."""

    async def extend() -> None:
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            try:
                await work.extend()
            except FabricError:
                continue  # then it may come again, and is known by its run

    keeping = asyncio.create_task(extend())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
