"""What a run asks of participants, and how it waits: suspended, until one answer counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from session_fabric import requests as shell
from session_fabric.authoring import ToolCall
from session_fabric.follow import RecordsOnly
from session_fabric.parts import Parts
from session_fabric.ports import Wanted
from session_fabric.rules.bounds import MOST_OPEN_ASKS
from session_fabric.rules.questions import RequestKind, check_question
from session_fabric.rules.requests import (
    SETTLED,
    Answer,
    Approval,
    Outcome,
    Request,
    request_id,
    standing_of,
)
from session_fabric.run import Run
from session_fabric.words.arguments import check_mapping, check_seconds
from session_fabric.words.errors import (
    BrokerUnavailable,
    FabricError,
    IdConflict,
    InvalidRequest,
    LimitExceeded,
    RequestExpired,
    RequestNotFound,
    ToolFailed,
)
from session_fabric.words.events import (
    INPUT_ANSWERED,
    INPUT_REQUESTED,
    TOOL_ANSWERED,
    TOOL_REQUESTED,
    request_outcome,
)
from session_fabric.words.logs import log
from session_fabric.words.names import check_id
from session_fabric.words.wire import Record

# At the end of a run its open requests are closed for this long; those that are left are closed by who finds them.
CLOSING_S: Final = 2.0


class Asking:
    """Asks in a run's name. What was asked under an id is asked once, whoever runs the handler again."""

    def __init__(self, parts: Parts, run: Run) -> None:
        self._parts = parts
        self._run = run
        self._counts: dict[str, int] = {}
        self._asked = False
        self._open = 0
        self._hidden = False  # what was said before is hidden from readers: the handler is run again

    def begin_again(self) -> None:
        """Count requests from one again: the handler is run again, and finds what it has asked."""
        self._counts.clear()
        self._hidden = True

    async def client_tool(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        to: Any,
        deadline_s: float | None,
        id: str | None,
        call: str | None,
    ) -> Any:
        """Have a participant's device call a tool; see `Run.client_tool`."""
        check_mapping(args, "args")
        id = self._id("tool", id)
        body = {"type": TOOL_REQUESTED, "request": id, "run": self._run.id, "tool": name, "args": dict(args), "to": to}
        body |= {"deadline_ms": _ms(deadline_s), "call": id if call is None else check_id(call, "tool call")}
        check_question(body, "tool")
        with self._one_more():
            return await self._tool(name, args, id, body, None if call is None else ToolCall(self._run, call))

    async def _tool(
        self, name: str, args: Mapping[str, Any], id: str, body: Mapping[str, Any], announced: ToolCall | None
    ) -> Any:
        request = await self._find(id)
        if request is None:
            call = announced or await self._run.tool(name, args, id=id)
            request = await self._ask(id, body)
        elif announced is not None:
            call = announced
        elif self._hidden:
            call = await self._run.tool(name, args)
        else:
            call = ToolCall(self._run, str(request.body.get("call", id)))
        try:
            outcome = await self._outcome(request)
        except RequestExpired as expired:
            await call.result({"error": expired.message})
            raise
        if "error" in outcome.body:
            error = str(outcome.body["error"])
            await call.result({"error": error})
            raise ToolFailed(
                f"The tool {name!r} answered with an error.", error=error, tool=name, request=id, by=outcome.by
            )
        result = outcome.body.get("result")
        await call.result(result)
        return result

    async def ask(
        self,
        title: str,
        *,
        text: str | None,
        options: Sequence[Any] | None,
        schema: Mapping[str, Any] | None,
        to: Any,
        deadline_s: float | None,
        default: Any,
        id: str | None,
    ) -> Answer:
        """Ask for text, a choice or a form; see `Run.ask`."""
        if options is not None and schema is not None:
            raise InvalidRequest("A question has either options or a schema.", hint="Leave one of them out.")
        kind: RequestKind = "text"
        body: dict[str, Any] = {"title": title, "text": text, "to": to, "deadline_ms": _ms(deadline_s)}
        if options is not None:
            if isinstance(options, str) or not isinstance(options, Iterable):
                raise InvalidRequest(f"The options are {options!r:.60}.", hint='Use a list: ["S", "M"].')
            kind, body = "choice", body | {"options": list(options)}
        if schema is not None:
            kind, body = "form", body | {"schema": dict(check_mapping(schema, "schema"))}
        return await self._input(kind, body | ({} if default is None else {"default": default}), id)

    async def approve(
        self, title: str, *, text: str | None, to: Any, deadline_s: float | None, default: bool | None, id: str | None
    ) -> Approval:
        """Ask whether something may be done; see `Run.approve`."""
        body: dict[str, Any] = {"title": title, "text": text, "to": to, "deadline_ms": _ms(deadline_s)}
        answer = await self._input(
            "approval", body | ({} if default is None else {"default": {"approved": default}}), id
        )
        said = answer.body if isinstance(answer.body, dict) else {}
        comment = said.get("comment")
        said_why = comment if isinstance(comment, str) else None
        return Approval(said.get("approved") is True, answer.by, said_why, answer.defaulted)

    async def _input(self, kind: RequestKind, asked: Mapping[str, Any], id: str | None) -> Answer:
        id = self._id(kind, id)
        body = {"type": INPUT_REQUESTED, "request": id, "run": self._run.id, "kind": kind, **asked}
        check_question(body, kind)
        with self._one_more():
            request = await self._find(id) or await self._ask(id, body)
            outcome = await self._outcome(request)
        return Answer(outcome.body.get("body"), outcome.by, outcome.body.get("defaulted") is True)

    async def close(self) -> None:
        """Close what the run has asked and nobody has answered, its end being in the log."""
        if not self._asked and self._run.takeover is None:
            return
        try:
            async with asyncio.timeout(CLOSING_S):
                await shell.close(self._parts, self._run.id)
        except (FabricError, TimeoutError) as error:
            log.info("requests_left_open", run=self._run.id, error=type(error).__name__)

    @contextlib.contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._open >= MOST_OPEN_ASKS:
            raise LimitExceeded(
                f"The run waits for {self._open} answers; {MOST_OPEN_ASKS} is the most at a time.",
                hint="Ask for several things in one form.",
                limit=MOST_OPEN_ASKS,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    # --- asking ---------------------------------------------------------------------------------------

    def _id(self, kind: RequestKind, given: str | None) -> str:
        if given is not None:
            return check_id(given, "request")
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return request_id(self._run.id, kind, self._counts[kind])

    async def _find(self, id: str) -> Request | None:
        """Return what was asked under this id, by this run or whoever had it before."""
        self._asked = True

        async def find() -> Request | None:
            return await shell.find(self._parts, await self._parts.open(), id)

        found = await self._parts.persist(find)
        if found is not None and found.run != self._run.id:
            raise IdConflict(
                f"The request {id!r} is run {found.run!r}'s.", hint="Use another id.", id=id, offset=str(found.offset)
            )
        return found

    async def _ask(self, id: str, body: Mapping[str, Any]) -> Request:
        """Store the request, behind all that the run has said before."""
        await self._run.stored()

        async def ask() -> None:
            record = await self._parts.open()
            await self._parts.writer.append(record.stretch, body, id=id, since=None, own=True, run=self._run.id)

        with contextlib.suppress(IdConflict):  # asked in other words by who had the run before, this moment
            await self._parts.persist(ask)
        request = await self._find(id)
        if request is None:
            raise RequestNotFound(f"The request {id!r} is gone: the session was emptied.", request=id)
        return request

    # --- waiting --------------------------------------------------------------------------------------

    async def _outcome(self, request: Request) -> Outcome:
        """Wait for the answer, the run being suspended meanwhile. Raises `RequestExpired`."""
        name = Wanted("own", request_outcome(request.request))

        async def newest() -> Outcome | None:
            found = await self._parts.broker.log.newest((await self._parts.open()).stretch, name)
            return standing_of(None if found is None else found.event()).outcome

        outcome = await self._parts.persist(newest)
        if outcome is None:
            run = self._run
            await run.suspend(request.request)
            try:
                outcome = await self._heard(request)
            finally:
                if not run.cancelled and not run.leaving:
                    await run.resume(request.request)
        if outcome.type in (TOOL_ANSWERED, INPUT_ANSWERED):
            return outcome
        reason = str(outcome.body.get("reason"))
        raise RequestExpired(
            f"Nobody answered the request {request.request!r} in time.", request=request.request, reason=reason
        )

    async def _heard(self, request: Request) -> Outcome:
        """Follow the session until the request is settled; at its deadline see to it that it is."""
        heard = _Heard(request_outcome(request.request))
        follower = self._parts.follower(heard, after=request.offset, kinds=("own",))
        following = asyncio.create_task(follower.run(), name=f"answer to {request.request}")
        following.add_done_callback(heard.left)
        try:
            while request.deadline is not None:
                left_s = (request.deadline - shell.now_ms()) / 1000
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        return await asyncio.shield(heard.outcome)
                with contextlib.suppress(BrokerUnavailable):
                    await shell.expire(self._parts, request)
                    break
                await self._parts.until_connected()
            return await heard.outcome
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


class _Heard(RecordsOnly):
    """Waits for one request's outcome."""

    def __init__(self, name: str) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._name = name

    def records(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if record.type in SETTLED and record.parts.name == self._name and not self.outcome.done():
                outcome = standing_of(record.event()).outcome
                if outcome is not None:
                    self.outcome.set_result(outcome)

    def ended(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def left(self, task: asyncio.Task[None]) -> None:
        """Its follower has ended: by a defect, if it has not said why."""
        if task.cancelled():
            self.outcome.cancel()
        elif (error := task.exception()) is not None:
            self.ended(error)


def _ms(deadline_s: float | None) -> int | None:
    if deadline_s is None:
        return None
    check_seconds(deadline_s, "deadline_s", 1e9, least=0.001)
    return max(1, round(deadline_s * 1000))
