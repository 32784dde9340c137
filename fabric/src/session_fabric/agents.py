"""An agent as its author writes it: `@fabric.agent(pool="default")`, and the whole loop around the handler."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from session_fabric.dead_letters import CODE, bury
from session_fabric.desk import Desk, Job
from session_fabric.floors import Floor
from session_fabric.opening import OpenRun
from session_fabric.parts import Parts
from session_fabric.rules.inputs import text_of
from session_fabric.run import Run, RunFailed, Takeover
from session_fabric.session import Session
from session_fabric.words import measures
from session_fabric.words.errors import (
    AlreadyAnswered,
    BrokerUnavailable,
    FabricError,
    InvalidRequest,
    RequestClosed,
    RunClosed,
    RunExists,
    RunFenced,
)
from session_fabric.words.events import HANDOFF_OFFERED, MESSAGE_REGENERATE, Event
from session_fabric.words.logs import log
from session_fabric.words.names import check_id
from session_fabric.words.positions import Offset

TakeoverMode = Literal["restart", "continue", "fail"]
# A run that so many processes have died of is not given to another one.
MOST_GENERATIONS: Final = 5
BACKOFF_S: Final = 0.5
MOST_BACKOFF_S: Final = 30.0


class Input(NamedTuple):
    """What an agent is asked: a participant's message, to answer it again, or a hand-over to its pool.

    `text` is what was said (of a hand-over: the note), `message` the AG-UI message, `offset` where it stands.
    """

    type: str
    text: str
    message: Mapping[str, Any]
    actor: str
    offset: Offset
    event: Event


class AgentRun(Run):
    """The run that a handler writes its answer into; see `Run`. Made for one input of a session."""

    session: Session
    input: Input
    attempt: int = 1  # of this handler within the run: 2 and more after it failed
    resumed: bool = False  # begun by a process that was lost; `said` is its text so far under takeover="continue"


Handler = Callable[[AgentRun], Awaitable[None]]


class Options(NamedTuple):
    """How a pool's agent works: see `Fabric.agent`."""

    pool: str
    concurrency: int
    retries: int
    takeover: TakeoverMode
    idle_s: float
    stop_s: float


def check_options(options: Options) -> Options:
    """Return them, or raise `InvalidRequest` that names the wrong one."""
    check_id(options.pool, "pool")
    if not 1 <= options.concurrency <= 10_000:
        raise InvalidRequest(f"concurrency is {options.concurrency}.", hint="Use 1 to 10,000 runs at once.")
    if not 0 <= options.retries <= 100:
        raise InvalidRequest(f"retries is {options.retries}.", hint="Use 0 to 100.")
    if options.takeover not in ("restart", "continue", "fail"):
        raise InvalidRequest(f"takeover is {options.takeover!r:.40}.", hint="Use restart, continue or fail.")
    return options


class Answering:
    """Makes the runs of one pool: the handler, again where it fails, to an end in every case."""

    def __init__(self, handler: Handler, options: Options, slots: asyncio.Semaphore) -> None:
        self._handler = handler
        self._options = options
        self._slots = slots

    async def answer(self, desk: Desk, job: Job) -> None:
        """Make one run; its end is in the log, or it is somebody else's. Cancelled: it is left for others."""
        async with self._slots:
            try:
                await self._run(desk, job)
            except (RunExists, RunClosed, RunFenced) as error:
                log.info("run_is_anothers", run=job.run, code=error.code)
            except BrokerUnavailable as error:
                # When it is back, whoever hears the bell goes on with it, maybe this desk.
                log.warning("run_left", run=job.run, code=error.code)
            except (AlreadyAnswered, RequestClosed) as error:
                log.info("offer_is_closed", session=desk.parts.place.session, code=error.code)
            except RunFailed:
                pass  # it is told in the session
            except Exception as error:
                log.error("run_failed", run=job.run, error=type(error).__name__, exc_info=error)

    async def _run(self, desk: Desk, job: Job) -> None:
        # Nobody rings for it any more: as long as this process has the floor, it begins when it can.
        asked = await desk.parts.persist(partial(_input, desk.parts, job.event))
        if asked is None:
            return
        takeover = job.takeover
        if job.event.type == HANDOFF_OFFERED and takeover is None:
            # What was the other pool's is this one's from here on: what is asked of it is forwarded to us.
            offered_by = Floor(desk.parts, str(job.event.body.get("pool")))
            await desk.parts.persist(partial(offered_by.accept, job.event.id, as_pool=desk.pool))
        if takeover is not None:
            takeover = takeover._replace(goes_on=self._options.takeover == "continue")
        claim = {"pool": desk.pool, "input": str(job.event.offset), "message": asked.message.get("id")}
        make = partial(AgentRun, for_others=True)
        opening = OpenRun(desk.parts, job.run, claim=claim, takeover=takeover, make=make, patient=True)
        # The names are OpenTelemetry's, of agents and of messages (semantic conventions, gen_ai and messaging).
        about = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": desk.pool,
            "gen_ai.conversation.id": desk.parts.place.session,
            "messaging.system": "session_fabric",
            "messaging.operation.type": "process",
            "messaging.message.id": job.event.id,
            "session_fabric.run": job.run,
        }
        traces = desk.parts.common.traces
        with traces.span(f"invoke_agent {desk.pool}", "consumer", about, job.event.trace):
            await self._make(desk, opening, asked, takeover)

    async def _make(self, desk: Desk, opening: OpenRun, asked: Input, takeover: Takeover | None) -> None:
        async with opening as run:
            assert isinstance(run, AgentRun)
            run.session = Session.around(desk.parts)
            run.input, run.resumed, run.on_status = asked, takeover is not None, desk.status
            desk.active[run.id] = run
            metrics = desk.parts.common.metrics
            if takeover is None:
                metrics.observe(measures.RUN_WAIT, max(0, time.time_ns() // 1_000_000 - asked.event.ts) / 1000)
            if takeover is not None and takeover.generation > MOST_GENERATIONS:
                await self._bury(desk, run, takeover.generation - 1)
                raise RunFailed("Every agent that worked on this was lost.")
            if takeover is not None and self._options.takeover == "fail":
                run.failure = {"code": "agent_lost"}
                raise RunFailed("The agent was lost.")
            await self._attempts(desk, run)

    async def _bury(self, desk: Desk, run: AgentRun, attempts: int, cause: Exception | None = None) -> None:
        """Make of a run that is about to fail a dead letter."""
        run.failure = {"code": CODE, "attempts": attempts}
        if cause is not None:
            run.failure = {**run.failure, "cause": type(cause).__name__}
        await bury(desk.parts, desk.pool, run.id, run.input.offset, run.input.message.get("id"))

    async def _attempts(self, desk: Desk, run: AgentRun) -> None:
        """Call the handler, and again after a while where it fails; what it said before is hidden then."""
        while True:
            try:
                return await self._handler(run)
            except (RunFailed, FabricError):
                raise
            except Exception as error:
                if run.attempt > self._options.retries:
                    if self._options.retries:
                        await self._bury(desk, run, run.attempt, error)
                    raise
                desk.parts.common.metrics.count(measures.ATTEMPTS_FAILED)
                log.warning("attempt_failed", run=run.id, attempt=run.attempt, error=type(error).__name__)
                delay_s = min(MOST_BACKOFF_S, BACKOFF_S * 2 ** (run.attempt - 1))
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
                run.attempt += 1
                await run.begin_again(run.attempt)


async def _input(parts: Parts, event: Event) -> Input | None:
    """Return what an event asks; None when it names no message of a user."""
    body = event.body
    if event.type == MESSAGE_REGENERATE:
        found = (await parts.history.folded()).message(str(body.get("message")))
        if found is None or found.role != "user":
            return None
        message = {"id": found.id, "role": "user", "content": found.content}
        return Input(event.type, text_of({"message": message}), message, found.actor, event.offset, event)
    if event.type == HANDOFF_OFFERED:
        note = body.get("note")
        return Input(event.type, note if isinstance(note, str) else "", {}, event.actor, event.offset, event)
    said_here = body.get("message")
    known: Mapping[str, Any] = said_here if isinstance(said_here, dict) else {}
    return Input(event.type, text_of(body), known, event.actor, event.offset, event)
