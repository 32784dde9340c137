"""Does what a `RunAgentInput` asks, or finds the run that is asked for, and tells it: the shell of both dialects."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson
from session_fabric import Offset, Session
from session_fabric.rules.messages import Message, Run
from session_fabric.rules.requests import ANSWERED, SETTLED, Request
from session_fabric.rules.routing import run_of_input
from session_fabric.words.errors import IdConflict, SessionNotFound
from session_fabric.words.positions import ZERO

from session_fabric_gateway.accounts import Meter
from session_fabric_gateway.admission import admit
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import NotFound
from session_fabric_gateway.dialects import inputs
from session_fabric_gateway.dialects.ag_ui import wishes
from session_fabric_gateway.dialects.ag_ui.interrupts import ALREADY_ANSWERED, DECLINED, Answer, fitting
from session_fabric_gateway.dialects.ag_ui.places import Place
from session_fabric_gateway.dialects.ag_ui.restating import Restating, ag_ui_messages
from session_fabric_gateway.dialects.ag_ui.saying import Said, finished, snapshot, started
from session_fabric_gateway.dialects.ag_ui.speaking import Frame, Speaker, Turn
from session_fabric_gateway.dialects.ag_ui.wishes import RunInput
from session_fabric_gateway.dialects.following import Following
from session_fabric_gateway.dialects.pouring import Tale
from session_fabric_gateway.feed import Feed
from session_fabric_gateway.gateway import Gateway

_UNDER_WAY: Final = frozenset({"claimed", "running", "suspended", "orphaned"})


class _Done(NamedTuple):
    """What became of an answer: of which run it is and where it stands; `again`: it was given before."""

    run: str
    at: Offset | None
    again: bool = False


class Turns:
    """What one participant asks of one session, in one of the two dialects."""

    def __init__(
        self, gateway: Gateway, grant: Grant, session: Session, meter: Meter, frame: Frame, *, eager: bool
    ) -> None:
        self._gateway = gateway
        self._grant = grant
        self._session = session
        self._meter = meter
        self._frame = frame
        self._eager = eager

    # --- what a client posts ----------------------------------------------------------------------------

    async def posted(self, asked: RunInput, place: Place | None = None) -> Turn:
        """Append what is new, once however often it is posted, and return what is to be told.

        `place`: of a client that comes back; it gets what is behind that. Raises what `inputs.say` and `inputs.answer`
        do, `InvalidRequest`, `InvalidName`.
        """
        run = inputs.event_id(asked.run_id, "runId")
        await admit(self._grant, self._session, "read", makes=True)
        again = await self._found(run)
        if again is not None:
            return await self._told_anew(again, asked.thread_id, run, place)
        answered = await self._answered(asked, run)
        shown = (await self.restated()).messages()
        said = wishes.saying(asked, shown)
        if said is None and answered is None:
            raise wishes.nothing_new(asked)
        if place is not None:
            await self._check(place)
        if answered is not None and (said is None or said.kind == "again"):
            return answered if place is None else replace(answered, place=place, prefix=(), since=None)
        assert said is not None
        return await self._said(asked, run, place, said, shown)

    async def _said(
        self, asked: RunInput, run: str, place: Place | None, said: wishes.Said, shown: Sequence[Message]
    ) -> Turn:
        if said.kind == "again":
            going = await self._going(said.message)
            if going is not None:  # it is being answered: that is what is shown
                return await self._told_anew(going, asked.thread_id, run, place)
        names = asked.thread_id, run
        try:
            appended = await inputs.say(self._gateway, self._grant, self._session, said.body, run)
        except IdConflict as conflict:
            at = await self._same_message(conflict, said.message)
            appended = inputs.Input(run_of_input(run), inputs.before(at), True)
        prefix = [started(*names, asked.parent_run_id)]
        shown = wishes.before(shown, said)
        if not self._eager and wishes.knows_less(asked, shown):
            known = [*ag_ui_messages(shown), *([dict(asked.last)] if said.kind == "message" else [])]
            # Its clients keep the places of messages that they have: of none they have no places.
            prefix += [snapshot([]), snapshot(known)]
        return Turn(appended.run, appended.before, *names, prefix if place is None else (), place)

    async def _same_message(self, conflict: IdConflict, message: str) -> Offset:
        """Return where the message stands that was posted before under this run id, with other words around it."""
        at = Offset.parse(str(conflict.facts["offset"]))
        async with aclosing(self._session.read(inputs.before(at), upto=at)) as batches:
            async for records in batches:
                for record in records:
                    body = orjson.loads(record.body).get("message")
                    id = body.get("id") if isinstance(body, dict) else body
                    if record.offset == at and record.actor == self._grant.participant and id == message:
                        return at
        raise conflict

    async def _going(self, message: str) -> Run | None:
        runs = await self._session.runs()
        return next((run for run in reversed(runs) if run.message == message and run.state in _UNDER_WAY), None)

    # --- answers ----------------------------------------------------------------------------------------

    async def _answered(self, asked: RunInput, run: str) -> Turn | None:
        """Give the answers that there are, and return the run that goes on with them; None: nothing is answered.

        What was posted before is told from the run's beginning.
        """
        if asked.resume is None and not asked.returned:
            return None
        open: list[Request] = []
        with suppress(SessionNotFound):
            open = await self._session.requests()
        given = wishes.answers(asked, open)
        known = {request.request: request for request in open}
        done = [await self._answer(answer, known.get(answer.request), run) for answer in given]
        at = [(one.run, one.at) for one in done if one.at is not None]
        returned = set() if asked.last.get("role") == "user" else set(asked.returned)
        wanted = returned | {answer.request for answer in given}
        if not wanted:
            return None
        found = min(at, key=lambda one: one[1]) if at else await self._settled(run, wanted)
        if found is None:
            return None
        of, since = found
        begun = await inputs.run_named(self._session, of)
        if begun is None:
            return None
        if any(one.again for one in done) or (not given and await self._settled(run, set()) is not None):
            return await self._told_anew(begun, asked.thread_id, run, None)
        lost = [answer.request for answer, one in zip(given, done, strict=True) if one.at is None]
        notes = [{"type": "CUSTOM", "name": ALREADY_ANSWERED, "value": {"request": request}} for request in lost]
        return Turn(
            of,
            inputs.begin_of(begun),
            asked.thread_id,
            run,
            [started(asked.thread_id, run, asked.parent_run_id), *notes],
            since=since,
            given=frozenset() if lost or self._eager else frozenset(asked.returned),
            answered=frozenset(answer.request for answer in given),
        )

    async def _answer(self, answer: Answer, request: Request | None, run: str) -> _Done:
        """Answer a request. Who will not answer a question ends the run."""
        id, kind = wishes.answer_id(run, answer.request), "" if request is None else request.kind
        mine = self._gateway, self._grant, self._session
        if answer.abandons and request is not None and kind not in ("tool", "approval"):
            return _Done(request.run, await inputs.stop(*mine, request.run, "interrupt"))
        if answer.error is not None or (answer.abandons and kind == "tool"):
            done = await inputs.answer(*mine, answer.request, error=answer.error or DECLINED, id=id)
        else:
            body = {"approved": False} if answer.abandons else fitting(kind or "approval", answer.body)
            done = await inputs.answer(*mine, answer.request, body=body, id=id)
        of = "" if request is None else request.run
        if done is not None and not of:
            found = await self._settled(run, {answer.request})
            of = "" if found is None else found[0]
        return _Done(of, None if done is None else done.offset, done is not None and done.duplicate)

    async def _settled(self, run: str, requests: set[str]) -> tuple[str, Offset] | None:
        """Find what settled these requests, or what a run of the client's has answered: whose it is, and the first."""
        begins = wishes.answers_of(run)
        with suppress(SessionNotFound):
            async with aclosing(self._session.read("start")) as batches:
                async for records in batches:
                    for record in records:
                        if record.type not in SETTLED or record.run is None:
                            continue
                        mine = record.type in ANSWERED and record.id.startswith(begins)
                        if mine or orjson.loads(record.body).get("request") in requests:
                            return record.run, record.offset
        return None

    # --- a run that is there ----------------------------------------------------------------------------

    async def joined(self, thread: str, run: str, place: Place | None = None) -> Turn:
        """Return a run that is there, by its own id or by that of a client. Raises `NotFound`, `SessionNotFound`."""
        await self._session.record(create=False)
        found = await self._found(run)
        if found is None:
            settled = await self._settled(run, set())
            begun = None if settled is None else await inputs.run_named(self._session, settled[0])
            found = begun
        if found is None:
            waiting = await inputs.asked_under(self._session, run)
            if waiting is None:
                raise NotFound(f"Session {self._session.name!r} has no run {run!r:.100}.", hint="See its messages.")
            return Turn(waiting.run, waiting.before, thread, run, [started(thread, run)], place)
        return await self._told_anew(found, thread, run, place)

    async def _found(self, run: str) -> Run | None:
        """Return the run of this id, or of the input under this id."""
        with suppress(SessionNotFound):
            return next((one for one in await self._session.runs() if one.id in (run, run_of_input(run))), None)
        return None

    async def _told_anew(self, of: Run, thread: str, run: str, place: Place | None) -> Turn:
        """Return a run to be told from its beginning, with all that was said around it; or what is behind a place."""
        turn = Turn(of.id, inputs.begin_of(of), thread, run, place=place)
        if place is not None:
            await self._check(place)
            return turn
        return replace(turn, prefix=[started(thread, run), *await self._around(of.id)])

    async def _check(self, place: Place) -> None:
        """Raise `OffsetForeign` for a place that this session never gave."""
        if place.offset != ZERO:  # behind which a run is read that answers nobody
            await self._session.check(place.offset)
            await self._session.within(place.offset, await self._session.head())

    async def _around(self, of: str) -> list[Said]:
        restating = await self.restated()
        messages = ag_ui_messages(restating.messages(), without=of, blanks=not self._eager)
        states = [] if self._eager else restating.states(of)
        return [snapshot(messages), *states]

    async def restated(self) -> Restating:
        """Read the session, and return how it stands."""
        restating = Restating()
        with suppress(SessionNotFound):
            async with aclosing(self._session.read("start")) as batches:
                async for records in batches:
                    await self._gateway.sender.history.turn()
                    for record in records:
                        restating.add(record)
        return restating

    async def standing(self, thread: str) -> tuple[list[Said], Turn | None]:
        """Return how a thread stands: its messages and state, and the run that is under way (None: none is)."""
        await self._session.record(create=False)
        going = await inputs.under_way(self._session)
        if going is not None:
            (of, before, _), _ = going
            turn = Turn(of, before, thread, of)
            return [], replace(turn, prefix=[started(thread, of), *await self._around(of)])
        restating = await self.restated()
        messages = ag_ui_messages(restating.messages())
        return [snapshot(messages), *restating.states(None)], None

    async def stopped(self, run: str) -> bool:
        """Have a run stop; False when it has ended. Raises `NotFound`, and what `inputs.stop` does."""
        turn = await self.joined("", run, Place(ZERO, True, {}))
        asked = await inputs.stop(self._gateway, self._grant, self._session, turn.of, "interrupt")
        return asked is not None

    # --- telling ----------------------------------------------------------------------------------------

    async def tale(self, turn: Turn, feed: Feed) -> Tale:
        """Begin to read what a turn tells. Raises what `Following.begin` does."""
        tale = self._tale(turn, feed)
        await tale.following.begin()
        return tale

    def _tale(self, turn: Turn, feed: Feed, hidden: frozenset[str] = frozenset(), known: Offset | None = None) -> Tale:
        following = Following(feed, turn.before, self._grant.role, self._gateway.sender.history, self._meter)
        speaker = Speaker(turn, self._grant.participant, self._frame, eager=self._eager, hidden=hidden, known=known)

        async def then() -> Tale | None:
            """What was said in vain is hidden, or another run has taken the message: tell what is shown by now."""
            of = turn.of if speaker.again else speaker.steered
            if of is None:
                return None
            begun = await inputs.run_named(self._session, of)
            before = "start" if begun is None else inputs.begin_of(begun)
            anew = Turn(of, before, turn.thread, turn.run, await self._around(of))
            gone = speaker.replaced if speaker.again else frozenset()
            return self._tale(anew, feed, gone, speaker.newest)

        return Tale(following, speaker, then)


def bracketed(events: Sequence[Said], thread: str, run: str) -> list[dict[str, Any]]:
    """Put events that belong to no run into one, as AG-UI's clients want it."""
    return [started(thread, run), *events, finished({"type": "success"}, thread, run)]
