"""A session, as a participant uses it: what makes, changes and ends it is here, the rest in the facets it mixes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from session_fabric import branching, controls, following, lifecycle, membership, policies, requests, whispering
from session_fabric.endings import agent_lost, surely_end_run
from session_fabric.facets.past import Past
from session_fabric.facets.present import Present
from session_fabric.facets.session_governance import SessionGovernance
from session_fabric.opening import OpenRun
from session_fabric.parts import Common, Parts
from session_fabric.records import SessionRecord
from session_fabric.requests import NOTHING
from session_fabric.rules import segments
from session_fabric.rules.batching import WINDOW_S
from session_fabric.rules.bounds import check_labels, check_participants
from session_fabric.rules.policy import Policy
from session_fabric.rules.requests import Claim, Request
from session_fabric.rules.routing import authorize
from session_fabric.words.arguments import check_offset, check_seconds
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.events import RUN_ERROR, Event
from session_fabric.words.names import check_id
from session_fabric.words.positions import Offset
from session_fabric.writer import Appended, Identity


class Session(Past, Present, SessionGovernance):
    """One session of a tenant, in the name of one participant. Making it does no I/O; nothing has to be closed."""

    def __init__(self, common: Common, identity: Identity, name: str) -> None:
        self._parts = Parts.of(common, identity, name)
        self.name = name
        self.place = self._parts.place

    @classmethod
    def around(cls, parts: Parts) -> Session:
        return cls(parts.common, parts.identity, parts.place.session)

    # --- the session itself -----------------------------------------------------------------------

    async def record(self, *, create: bool = True, fresh: bool = False) -> SessionRecord:
        """Return the session's record, making the session if asked; `fresh`: as the broker has it at this moment.

        Raises `SessionNotFound`, `SessionGone`.
        """
        return (await self.create())[0] if create else await self._parts.directory.load(self.place, fresh=fresh)

    def on_record(self, sink: Callable[[SessionRecord | None], None]) -> Callable[[], None]:
        """Call `sink` with each change of the session's record, None when it is removed; the returned call ends it."""
        return self._parts.directory.watch(self.place, sink)

    async def create(
        self, labels: Mapping[str, str] | None = None, participants: Sequence[str] = ()
    ) -> tuple[SessionRecord, bool]:
        """Make the session if it is not there; the second is whether it was made now.

        `participants` take part in it from the beginning, as a person does who makes it. Raises `InvalidName`,
        `LimitExceeded` (more than 200; more than 32 labels, or 8 KiB of them).
        """
        check_labels({} if labels is None else labels)
        return await self._parts.create(labels, check_participants(participants))

    async def add_participant(self, participant: str) -> SessionRecord:
        """Have somebody take part, present or not: whose token names no sessions may enter those it takes part in.

        For who takes part, operators, supervisors, agents and services. Raises `Forbidden`, `InvalidName`,
        `LimitExceeded` (more than 200), `SessionNotFound`, `SessionClosed`.
        """
        return await membership.add(self._parts, participant)

    async def remove_participant(self, participant: str) -> SessionRecord:
        """Have somebody take part no more; users may remove themselves alone. Raises as `add_participant`."""
        return await membership.remove(self._parts, participant)

    async def close(self) -> SessionRecord:
        """End the session: it can be read and forked for ever, and takes nothing more.

        `session.closed` is its last event but for those of runs that are under way, which may end. Closing it again
        changes nothing. Raises `Forbidden` (users), `SessionNotFound`, `SessionGone`.
        """
        return await lifecycle.close(self._parts)

    async def fork(self, at: Offset, name: str | None = None) -> Session:
        """Make a session that shares this one's past up to and including the event at `at`, and goes its own way.

        Nothing is copied. Of an answer that was not complete then it has what its last snapshot had: the deltas behind
        go when the answer ends. Raises `OffsetForeign`, `OffsetGone`, `SessionExists`, `LimitExceeded`
        (1,000 forks of a session, or a fork of a fork for the hundredth time).
        """
        new = await lifecycle.fork(self._parts, check_offset(at, "at"), name)
        return Session.around(new)

    # --- writing ----------------------------------------------------------------------------------

    async def append(
        self, body: Mapping[str, Any] | bytes, *, id: str | None = None, since: Offset | None = None
    ) -> Appended:
        """Store one event; return when a quorum has it.

        `id`: yours, at most 128 characters; sent again with the same body it answers `duplicate` and the first
        offset. `since`: on a retry after minutes, an offset from before the first try. Raises `InvalidEvent`,
        `TooLarge`, `Forbidden`, `IdConflict`, `OffsetForeign` (`since` is not of this session), `SessionGone`,
        `BrokerUnavailable` (try again with the same id).
        """
        if since is not None:
            check_offset(since, "since")
        record = self._parts.open_at_hand() or await self._parts.open()
        if since is not None:
            segments.check(record.segments, since, record.floor_offset)
        return await self._parts.writer.append(record.stretch, body, id=id, since=since)

    async def append_own(self, body: Mapping[str, Any], *, id: str) -> Appended:
        """Store an event of the fabric's own (presence, control) in the participant's name."""
        record = await self._parts.open()
        return await self._parts.writer.append(record.stretch, body, id=id, since=None, own=True)

    def run(self, id: str | None = None, *, window_s: float = WINDOW_S, parent: str | None = None) -> OpenRun:
        """Claim a run: `async with session.run() as run:`; see `Run`. `window_s`: how long text gathers, 0 to 60."""
        check_seconds(window_s, "window_s", 60.0)
        if parent is not None:
            check_id(parent, "run")
        return OpenRun(self._parts, id, window_s, claim=None if parent is None else {"parentRunId": parent})

    async def abandon(self, run: str) -> bool:
        """End a run whose agent is gone, as failed; False when it has ended or was never begun.

        Its writer, should it live, is refused from then on (`RunClosed`). For agents: whoever gets a dead one's work.
        """
        authorize(RUN_ERROR, self._parts.identity.role)
        ended = await surely_end_run(self._parts, run, agent_lost())
        if ended:
            await requests.close(self._parts, run)
        return ended

    async def control(
        self,
        action: str,
        *,
        run: str,
        body: Mapping[str, Any] | None = None,
        deadline_ms: int | None = None,
        id: str | None = None,
    ) -> Appended:
        """Ask a run to `cancel` or `interrupt` (stop, its output kept), to `steer` (take `body["text"]` into account)
        or to `redirect` (stop, and answer `body["message"]` instead).

        A run that has not begun yet hears it when it does. Exactly one outcome comes as an event: `control.accepted`,
        `control.rejected` with a `reason`, or `control.expired` when nobody has answered within `deadline_ms` (1 to
        600,000; None: 5,000, but for a run that has not begun as long as its input may be answered). An author who has
        not stopped by then is told of (`control.overdue`) and the run is ended without him; one that is orphaned is
        stopped at once by who watches over sessions. `id`: sent again under one, the request is stored once. Raises
        `RunClosed` when the run has ended, `InvalidRequest`.
        """
        return await controls.request(self._parts, action, run, body, deadline_ms, id)

    async def outcome(self, asked: Appended) -> Event:
        """Wait for what becomes of a control request, `asked` being what `control` returned; there is always an end,
        seen to here where nobody watches over sessions: after `deadline_ms`, whatever clocks say.

        Its type is `control.accepted`, `control.rejected` or `control.expired`. Raises `SessionClosed`, `SessionGone`.
        """
        if not isinstance(asked, Appended):
            raise InvalidRequest(f"asked is {asked!r:.60}.", hint="Use what `control` returned.")
        before = Offset(asked.offset.segment, asked.offset.sequence - 1)
        async with controls.with_an_end(self._parts, asked.offset):
            return await following.first(self._parts, before, controls.outcome_of(asked.offset))

    async def whisper(self, text: str, *, run: str | None = None, id: str | None = None) -> Appended:
        """Tell the agents something that users do not see, 16 KiB at most: for operators, supervisors and services.

        `run`: for that one alone, begun or not; else for all that are under way, and later ones when they begin. Its
        author gets it as a `Steer` that is `whispered`. `id`: the event's, for trying again. Raises `Forbidden`,
        `InvalidRequest`, `RunClosed` when the run has ended.
        """
        return await whispering.whisper(self._parts, text, run, id)

    async def select(self, message: str, *, id: str | None = None) -> Appended:
        """Show a message and what it follows to everybody, in place of its alternatives; the newest selection counts.

        `id`: the event's, for trying again. To select a message that is not there, or is superseded, changes nothing.
        """
        return await branching.select(self._parts, message, id)

    async def regenerate(self, message: str, *, pool: str = "default", id: str | None = None) -> Appended:
        """Have a user's message answered again by an agent of a pool; the new answer is shown in place of the others.

        `id`: the event's, for trying again. Raises `MessageNotFound`; `InvalidRequest` when it is no user's.
        """
        return await branching.regenerate(self._parts, message, pool, id)

    async def edit(self, message: str, text: str, *, pool: str = "default", id: str | None = None) -> Appended:
        """Say something else in place of a user's message; that one and what followed it can be selected again.

        `id`: the new message's and its event's, for trying again. Raises `MessageNotFound`; `InvalidRequest`
        when it is no user's.
        """
        return await branching.edit(self._parts, message, text, pool, id)

    async def set_policy(self, /, **changes: Any) -> Policy:
        """Change what becomes of messages that come while an agent is at work, for every device; return the whole.

        `when_busy`: queue, concurrent, interrupt, steer or reject; `answer_within_s`: 1 to 86,400;
        `strict`: whether that holds for messages too that say otherwise of themselves. Raises `InvalidRequest`,
        `Forbidden` (users), `SessionClosed`, `BrokerUnavailable`.
        """
        return await policies.change(self._parts, changes)

    async def requests(self) -> list[Request]:
        """Return what runs ask of participants and nobody has answered yet, oldest first."""
        return await requests.open_requests(self._parts)

    async def claim(self, request: str, *, device: str | None = None) -> Claim:
        """Say that this device works on a tool request, for 30 s; claim again to go on.

        Raises `AlreadyClaimed` while another device's claim lasts, `AlreadyAnswered`, `RequestClosed` (its deadline has
        passed, or its run has ended), `RequestNotFound`, `Forbidden` (it is addressed to somebody else).
        """
        return await requests.claim(self._parts, request, device)

    async def answer(
        self,
        request: str,
        body: Any = NOTHING,
        *,
        error: str | None = None,
        device: str | None = None,
        id: str | None = None,
    ) -> Appended:
        """Answer a request: `body` is a tool's result, `{"approved":…}`, an option, text, a form; or a tool's `error`.

        Exactly one answer counts. The same answer sent again by the same device is `duplicate`; `id`: the event's, to
        tell a retry by. Raises `AlreadyAnswered`, which names who was first (`by`, `offset`), `AlreadyClaimed` while
        another device works on it, `RequestClosed`, `RequestNotFound`, `Forbidden`, `InvalidRequest` for what is no
        answer to it, `TooLarge` (over 256 KiB), `BrokerUnavailable` (try again).
        """
        return await requests.answer(self._parts, request, body, error, device, id)
