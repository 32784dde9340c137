"""An agent as its author writes it: `@fabric.agent(pool="default")`, and the whole loop around the handler."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from inspect import isasyncgenfunction, isawaitable, isfunction, isgeneratorfunction, ismethod
from math import inf
from typing import Any, Final, Literal, NamedTuple, NoReturn, get_args

from session_fabric.dead_letters import CODE, bury
from session_fabric.desk import Desk, Job
from session_fabric.doorbell import ring
from session_fabric.endings import bell_of
from session_fabric.floors import Floor
from session_fabric.opening import OpenRun
from session_fabric.parts import Parts
from session_fabric.rules.inputs import text_of
from session_fabric.run import Run, RunFailed, Takeover, meant
from session_fabric.session import Session
from session_fabric.words import measures
from session_fabric.words.arguments import check_choice, check_seconds, check_whole
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
from session_fabric.words.events import HANDOFF_OFFERED, MESSAGE_REGENERATE, RUN_ORPHANED, Event
from session_fabric.words.logs import log
from session_fabric.words.names import check_id
from session_fabric.words.positions import Offset

TakeoverMode = Literal["restart", "continue", "fail"]
# A run that so many processes have died of is not given to another one.
MOST_GENERATIONS: Final = 5
BACKOFF_S: Final = 0.5
MOST_BACKOFF_S: Final = 30.0
MOST_S: Final = 86_400.0
_WRITE: Final = "Write `async def handler(run): …`, with `await run.text(…)` for what it says."


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
    check_whole(options.concurrency, "concurrency", 1, 10_000)
    check_whole(options.retries, "retries", 0, 100)
    check_choice(options.takeover, "takeover", get_args(TakeoverMode))
    check_seconds(options.idle_s, "idle_s", inf)
    check_seconds(options.stop_s, "stop_s", inf)
    return options


def check_handler(handler: Handler) -> Handler:
    """Return a handler, or raise `InvalidRequest`: with anything else each input would fail."""
    call = handler if isfunction(handler) or ismethod(handler) else getattr(handler, "__call__", None)  # noqa: B004
    if call is None or isgeneratorfunction(call) or isasyncgenfunction(call):
        raise InvalidRequest(f"{handler!r:.60} is no handler.", hint=_WRITE)
    return handler


async def _call(handler: Handler, run: AgentRun) -> BaseException | None:
    """Call it in a task of its own; return what it raised to end the process."""
    try:
        answer: object = handler(run)
        if not isawaitable(answer):
            raise InvalidRequest(f"{handler!r:.60} returned {answer!r:.40}, and nothing to await.", hint=_WRITE)
        await answer
    except (KeyboardInterrupt, SystemExit) as leaving:
        return leaving  # a task that raises it stops the event loop at once, and the run would have no end
    return None


async def _ring_again(desk: Desk, run: str) -> None:
    """Ring for a run that was taken from this process and is nobody's: who took it may have died before he rang."""
    newest = await desk.parts.newest_own(await desk.parts.open(), run)
    if newest is not None and newest.type == RUN_ORPHANED:
        await ring(desk.parts, desk.pool, bell_of(run, newest.sequence), run)


Meaning = Literal["final", "stop", "failure"]
_ENDS_THE_PROCESS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


def _ends_the_process(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(_ENDS_THE_PROCESS) is not None
    return isinstance(error, _ENDS_THE_PROCESS)


def _meaning(error: BaseException, *, stopping: bool) -> Meaning:
    """Say what it means to a run that its handler raised this: the `final` word of its author, of the fabric (where no
    retry can help) or of the process; the `stop` that the run was told, whatever the handler has made of it; or a
    `failure`, to be tried again.
    """
    helpless = isinstance(error, FabricError) and not error.retryable
    if helpless or meant(error) is not None or _ends_the_process(error):
        return "final"
    return "stop" if stopping else "failure"


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
                with suppress(FabricError):
                    await desk.parts.persist(partial(_ring_again, desk, job.run))
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

    async def _bury(self, desk: Desk, run: AgentRun, attempts: int, cause: BaseException | None = None) -> None:
        """Make of a run that is about to fail a dead letter."""
        run.failure = {"code": CODE, "attempts": attempts}
        if cause is not None:
            run.failure = {**run.failure, "cause": type(cause).__name__}
        await bury(desk.parts, desk.pool, run.id, run.input.offset, run.input.message.get("id"))

    async def _attempts(self, desk: Desk, run: AgentRun) -> None:
        """Call the handler, and again after a while where it fails; what it said before is hidden then."""
        while (failure := await self._attempt(run)) is not None:
            if run.attempt > self._options.retries:
                await self._give_up(desk, run, failure)
            desk.parts.common.metrics.count(measures.ATTEMPTS_FAILED)
            log.warning("attempt_failed", run=run.id, attempt=run.attempt, error=type(failure).__name__)
            delay_s = min(MOST_BACKOFF_S, BACKOFF_S * 2 ** (run.attempt - 1))
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            run.attempt += 1
            await run.begin_again(run.attempt)

    async def _attempt(self, run: AgentRun) -> BaseException | None:
        """Call the handler once, and return how it failed, if it did. Raises what ends the run otherwise."""
        # In a task of its own: whoever stops the run cancels this one, so that what a handler cancels is no stop.
        # Awaited plainly, and not by a group, each cancellation of this task is handed on to it.
        handling = asyncio.create_task(_call(self._handler, run), name=f"handler of {run.id}")
        try:
            if (leaving := await handling) is not None:
                raise leaving
        except BaseException as error:
            this = asyncio.current_task()
            match _meaning(error, stopping=this is not None and this.cancelling() > 0):
                case "final":
                    told = meant(error)
                    if told is None or told is error or _ends_the_process(error):
                        raise
                    raise told from error
                case "stop":
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    log.info("raised_when_stopped", run=run.id, error=type(error).__name__)
                    raise asyncio.CancelledError from error
                case "failure":
                    return error
        finally:
            if handling.done() and not handling.cancelled():
                handling.exception()  # a stop came first: asyncio is not to complain that nobody looked
        return None

    async def _give_up(self, desk: Desk, run: AgentRun, failure: BaseException) -> NoReturn:
        """Raise what ends the run as failed, a dead letter where it was tried again."""
        if self._options.retries:
            await self._bury(desk, run, run.attempt, failure)
        if isinstance(failure, Exception):
            raise failure
        run.failure = {"code": type(failure).__name__, **run.failure}
        raise RuntimeError("The handler raised it, and nobody had cancelled the run.") from failure


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
