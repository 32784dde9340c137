"""What the AI SDK's transports have in common: carrying out what a client sends, and telling what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final, NamedTuple, assert_never

import orjson
from session_fabric import FabricError, Session
from session_fabric.rules.messages import STATUS
from session_fabric.rules.routing import DEFAULT_POOL, run_of_input
from session_fabric.words.errors import InvalidRequest, MessageNotFound, OffsetGone, SessionNotFound
from session_fabric.words.events import MESSAGE_EXPIRED, MESSAGE_REGENERATE, MESSAGE_REJECTED, MESSAGE_USER
from session_fabric.words.names import check_id
from session_fabric.words.positions import Offset

from session_fabric_gateway.accounts import Meter
from session_fabric_gateway.admission import admit, forbidden
from session_fabric_gateway.auth import Grant, now_ms
from session_fabric_gateway.codes import facts_of
from session_fabric_gateway.dialects import inputs
from session_fabric_gateway.dialects.ai_sdk.asked import Again, Answers, Asked, Edit, Given, Say, digest
from session_fabric_gateway.dialects.ai_sdk.chunks import Chunks, Settled
from session_fabric_gateway.dialects.ai_sdk.parts import Reader, Version
from session_fabric_gateway.dialects.following import Following
from session_fabric_gateway.dialects.inputs import Abort, Input
from session_fabric_gateway.dialects.pouring import Tale, Teller
from session_fabric_gateway.dialects.telling import Part
from session_fabric_gateway.feed import Feed
from session_fabric_gateway.gateway import Gateway

# How far back an edited message, or one that is answered again, is looked for.
_LOOKED_THROUGH: Final = 1000


# A page loads what there is, then goes on with what is under way: what has ended between is told too.
_JUST_NOW_MS: Final = 5000


class Options(NamedTuple):
    """What a page says in the URL: what its abort does, which agents answer, which major version it is of."""

    abort: Abort
    pool: str | None
    sdk: Version

    @classmethod
    def of(cls, query: Mapping[str, str], abort: Abort) -> Options:
        """Raises `InvalidRequest`, `InvalidName`."""
        said, sdk, pool = query.get("abort", abort), query.get("sdk", "7"), query.get("pool")
        if said not in ("detach", "interrupt"):
            raise InvalidRequest(f"abort is {said!r:.40}.", hint="Use detach or interrupt.", field="abort")
        if sdk not in ("6", "7"):
            raise InvalidRequest(f"sdk is {sdk!r:.40}.", hint="Use 6 or 7: the version of `ai`.", field="sdk")
        return cls(
            "interrupt" if said == "interrupt" else "detach",
            None if pool is None else check_id(pool, "pool"),
            6 if sdk == "6" else 7,
        )


class Begun(NamedTuple):
    """What is told of: the run of an input; `upto`: the client has what is up to there, so much of its texts."""

    input: Input
    upto: Offset | None = None
    told: Mapping[tuple[str, Part], int] = MappingProxyType({})


def error_text(error: FabricError) -> bytes:
    """Return an error as a chunk: its code, and what it says."""
    return orjson.dumps({"type": "error", "errorText": spelled(error)})


def spelled(error: FabricError) -> str:
    facts = facts_of(error)
    return f"{facts['code']}: {facts['message']} {facts['hint'] or ''}".rstrip()


class Chats:
    """Chats of one gateway: a chat is a session of the same name."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def carry_out(self, grant: Grant, session: Session, asked: Asked, options: Options) -> Begun:
        """Append what is asked, or answer; return what to tell. Raises what is told as a refusal."""
        if not grant.grants.allows(session.name, "read"):  # before it is said, and cannot be heard
            raise forbidden(grant, session.name, "read")
        match asked:
            case Say(message, answers):
                if answers is not None and grant.grants.allows(session.name, "answer"):
                    await self._give(grant, session, answers)
                return Begun(await self._say(grant, session, {"message": message}, str(message["id"]), options))
            case Edit():
                return Begun(await self._edit(grant, session, asked, options))
            case Again():
                return Begun(await self._again(grant, session, asked, options))
            case Answers():
                return await self._answers(grant, session, asked)
            case _:
                assert_never(asked)

    async def under_way(self, grant: Grant, session: Session, after: Offset | None = None) -> Begun | None:
        """Return what a page goes on with; None: nothing is under way. `after`: up to where it has the chat."""
        await admit(grant, session, "read")
        since = now_ms() - _JUST_NOW_MS if after is None else after
        found = await inputs.under_way(session, since)
        return None if found is None else Begun(found[0])

    async def tale(
        self,
        feed: Feed,
        session: Session,
        begun: Begun,
        reader: Reader,
        meter: Meter,
        teller: Callable[[Chunks], Teller],
    ) -> Tale:
        """Return what is to be told, begun. Raises what `Following.begin` does, but for what is gone: of that the
        rest is told."""
        following = self._following(feed, begun.input, reader, meter)
        try:
            await following.begin()
        except OffsetGone:
            following = self._following(feed, begun.input._replace(before="start"), reader, meter)
            await following.begin()
        settled = await _settled(session) if begun.input.duplicate else None
        chunks = Chunks(begun.input.run, reader, begun.upto, settled=settled)
        chunks.seed(begun.told)

        async def then() -> Tale | None:
            """An input that a run under way has taken is answered by the rest of that."""
            run = None if chunks.took is None else await inputs.run_named(session, chunks.took)
            if run is None:
                return None
            took = Begun(Input(run.id, inputs.begin_of(run), True))
            return await self.tale(feed, session, took, reader, meter, teller)

        return Tale(following, teller(chunks), then)

    def _following(self, feed: Feed, input: Input, reader: Reader, meter: Meter) -> Following:
        role = reader.participant.partition(":")[0]
        return Following(feed, input.before, role, self._gateway.sender.history, meter)

    # --- what is said -------------------------------------------------------------------------------

    async def _say(
        self,
        grant: Grant,
        session: Session,
        body: Mapping[str, Any],
        id: str,
        options: Options,
        type: str = MESSAGE_USER,
    ) -> Input:
        pool = {} if options.pool in (None, DEFAULT_POOL) else {"pool": options.pool}
        return await inputs.say(self._gateway, grant, session, {"type": type, **body, **pool}, id)

    async def _edit(self, grant: Grant, session: Session, edit: Edit, options: Options) -> Input:
        await admit(grant, session, "append")
        page = await session.messages(limit=_LOOKED_THROUGH)
        was = next((one for one in page.messages if one.id == edit.of and one.role == "user"), None)
        if was is None:
            raise _unknown(session, edit.of)
        body = {"message": edit.message, "parent": was.parent}
        return await self._say(grant, session, body, str(edit.message["id"]), options)

    async def _again(self, grant: Grant, session: Session, again: Again, options: Options) -> Input:
        await admit(grant, session, "append")
        runs = await session.runs()
        named = next((run for run in runs if run.id == again.instead), None)
        of = again.of if named is None or named.message is None else named.message
        page = await session.messages(limit=_LOOKED_THROUGH)
        if of is None or not any(one.id == of and one.role == "user" for one in page.messages):
            raise _unknown(session, of)
        answers = [run for run in runs if run.message == of]
        if answers and STATUS[answers[-1].state] == "open":
            return Input(answers[-1].id, inputs.begin_of(answers[-1]), True)  # asked for already
        id = await _free(session, f"{of}/{len(answers) if named is None else named.id}")
        return await self._say(grant, session, {"message": of}, id, options, MESSAGE_REGENERATE)

    async def _answers(self, grant: Grant, session: Session, answers: Answers) -> Begun:
        await admit(grant, session, "answer")
        run = await inputs.run_named(session, answers.run)
        if run is None:
            raise InvalidRequest(
                f"The message {answers.run!r:.80} is no answer of session {session.name!r}.",
                hint="Send a user's message last, or an assistant's message as this gateway has told it.",
                field="messages",
            )
        input = Input(run.id, inputs.begin_of(run), True)
        known = await self._known(session, input, Reader(grant.participant), answers)
        await self._give(grant, session, answers)
        return known

    async def _give(self, grant: Grant, session: Session, answers: Answers) -> None:
        """Answer what the run still asks; what others have answered meanwhile is answered."""
        try:
            asked = await inputs.requests_of(grant, session, answers.run)
        except SessionNotFound:
            return
        open = {request.request: request for request in asked}
        calls = {str(request.body.get("call")): id for id, request in open.items()}
        for given in answers.given:
            request = given.id if given.id in open else calls.get(given.id)
            if request is not None:
                await self._answer(grant, session, request, given)

    async def _answer(self, grant: Grant, session: Session, request: str, given: Given) -> None:
        if given.error is not None:
            await inputs.answer(self._gateway, grant, session, request, error=given.error)
        else:
            await inputs.answer(self._gateway, grant, session, request, body=given.body)

    async def _known(self, session: Session, input: Input, reader: Reader, answers: Answers) -> Begun:
        """Return what the client has of a run: what was told where its stream has ended for the newest of what it
        answers. Before that is answered: behind the run's end the pieces of its texts are gone."""
        ids = {given.id for given in answers.given}
        chunks, last = Chunks(input.run, reader, endless=True), None
        async with aclosing(session.read(input.before)) as batches:
            async for records in batches:
                await self._gateway.sender.history.turn()
                last = records[-1].offset
                for record in records:
                    chunks.add(record)
        had = next((pause for pause in reversed(chunks.pauses) if pause.parts & ids), None)
        return Begun(input, last, chunks.told) if had is None else Begun(input, had.offset, had.told)


async def _free(session: Session, what: str) -> str:
    """Return the id of a wish, the same each time it is sent, until it was refused: then it is another wish."""
    for time in range(_LOOKED_THROUGH):
        id = "again-" + digest(f"{what}/{time}".encode())
        newest = await session.newest_of_run(run_of_input(id))
        if newest is None or newest.type not in (MESSAGE_REJECTED, MESSAGE_EXPIRED):
            break
    return id


async def _settled(session: Session) -> Settled:
    """Return what has been answered by now. In this order: what is asked meanwhile is neither settled nor missed."""
    upto = await session.head()
    return Settled(upto, frozenset(request.request for request in await session.requests()))


def _unknown(session: Session, id: str | None) -> InvalidRequest | MessageNotFound:
    if id is None:
        return InvalidRequest(
            "There is no user's message to answer again.", hint="Send one, and then ask again.", field="messages"
        )
    return MessageNotFound(
        f"There is no user's message {id!r:.80} in session {session.name!r}.",
        hint="Send it before it is edited or answered again.",
        field="messages",
    )
