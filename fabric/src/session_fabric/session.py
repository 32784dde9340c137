"""A session, as a participant uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_fabric import (
    branching,
    controls,
    exporting,
    following,
    keeping,
    lifecycle,
    membership,
    policies,
    redaction,
    requests,
    seen,
    states,
    whispering,
)
from session_fabric.endings import agent_lost, surely_end_run
from session_fabric.erasure import Erasure
from session_fabric.exporting import Previous
from session_fabric.floors import Floor
from session_fabric.follow import Follower, FollowSink
from session_fabric.history import Messages, Page
from session_fabric.inspection import Findings, inspect
from session_fabric.joining import Joined
from session_fabric.keeping import Kept
from session_fabric.opening import OpenRun
from session_fabric.parts import Common, Parts
from session_fabric.ports import Listening, Wanted
from session_fabric.presence import Member
from session_fabric.records import SessionRecord
from session_fabric.redaction import Redactable, Redaction
from session_fabric.requests import NOTHING
from session_fabric.rules import segments
from session_fabric.rules.batching import WINDOW_S
from session_fabric.rules.bounds import check_labels, check_participants
from session_fabric.rules.holds import Hold, Holds
from session_fabric.rules.messages import Run as RunSeen
from session_fabric.rules.policy import Policy
from session_fabric.rules.requests import Claim, Request
from session_fabric.rules.routing import authorize
from session_fabric.rules.states import State
from session_fabric.rules.unread import Cursor
from session_fabric.states import Document
from session_fabric.words import signals
from session_fabric.words.events import RUN_ERROR, Deltas, Event
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.positions import After, Offset
from session_fabric.words.signals import Origin, Said, Signal
from session_fabric.words.wire import Record
from session_fabric.writer import Appended, Identity


class Session:
    """One session of a tenant, in the name of one participant. Making it does no I/O; nothing has to be closed."""

    def __init__(self, common: Common, identity: Identity, name: str) -> None:
        self._parts = Parts.of(common, identity, name)
        self.name = name
        self.place = self._parts.place

    @classmethod
    def around(cls, parts: Parts) -> Session:
        return cls(parts.common, parts.identity, parts.place.session)

    # --- the session itself -----------------------------------------------------------------------

    async def record(self, *, create: bool = True) -> SessionRecord:
        """Return the session's record, making the session if asked. Raises `SessionNotFound`, `SessionGone`."""
        return (await self.create())[0] if create else await self._parts.directory.load(self.place)

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
        check_labels(labels or {})
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
        new = await lifecycle.fork(self._parts, at, name)
        return Session.around(new)

    async def delete(self, reason: str = "") -> Erasure:
        """Remove the session with all that it holds; followers end with `SessionGone`. Return what there was, and what
        there is now: nothing, or what could not be removed (`remains`).

        While a fork needs its past, the past stays, readable through the fork alone. `reason` is for the audit. Raises
        `SessionHeld` while a legal hold stands, `SessionNotFound`, `SessionGone`, `BrokerUnavailable` (delete again).
        """
        return await lifecycle.delete(self._parts, reason)

    def export(
        self, *, previous: Previous | None = None, cursors: bool = False, key: Ed25519PrivateKey | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the session as lines: its events as they are stored, its documents, with `cursors` its read markers.

        Each line's hash follows from the one before: `verify` finds out what was changed. `previous`: the end of an
        earlier export, to go on from. `key` signs the last hash. Raises `Forbidden` (users), `OffsetGone` (retention
        removed what was to be read: begin anew), `SessionNotFound`, `KeyMissing`.
        """
        return exporting.export(self._parts, previous=previous, cursors=cursors, key=key)

    async def redact(self, message: str | None = None, *, event: Offset | str | None = None, reason: str) -> Redaction:
        """Remove what a message says, or one other event (its offset or id), for good; the session goes on.

        `message.redacted` (`event.redacted`) says who did it, when and why; then every event of the message goes, its
        tool calls and their results, what was asked of participants for them, and its large bodies; it is left as a
        message of the same role without content, here and in forks. Again it finishes what was cut off. Raises
        `InvalidRequest` (there is none; it is of a fork's source; others rely on that event), `MessageOpen` while the
        run that writes or answers it is under way, `SessionHeld`, `Forbidden` (users), `SessionNotFound`.
        """
        return await redaction.redact(self._parts, message, event, reason)

    async def redactable(self, message: str | None = None, *, event: Offset | str | None = None) -> Redactable:
        """Return what `redact` would remove; nothing is changed. Raises as that does, but for what is open or held."""
        return await redaction.look(self._parts, message, event)

    async def retention(self) -> Kept:
        """Return how long what is in the session is kept, and the legal holds on it. Raises `SessionNotFound`."""
        return await keeping.of_session(self._parts)

    async def set_retention(self, /, **changes: Any) -> Kept:
        """Change how long what is in this session is kept; what is not said here is as the tenant's says.

        `max_age_s`: events older than this are removed; `max_events`, `max_bytes`: the newest that are kept;
        `max_idle_s`: the session is deleted when nothing was stored for so long; `closed_s`: so long after it was
        closed. Each a number, None for no limit, or "inherit". Raises `InvalidRequest`, `Forbidden` (users),
        `SessionNotFound`.
        """
        return await keeping.set_of_session(self._parts, changes)

    async def hold(self, reason: str, name: str = "hold") -> Hold:
        """Have nothing of the session removed, by anybody, until `release` of the same name; holds add up.

        Raises `InvalidRequest`, `Forbidden` (users), `SessionNotFound`, `LimitExceeded` (more than 50).
        """
        return await keeping.hold_session(self._parts, reason, name)

    async def release(self, name: str = "hold") -> Holds:
        """End a hold; return those that still stand. Raises `InvalidRequest` where there is none of that name."""
        return await keeping.release_session(self._parts, name)

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
        record = await self._parts.open()
        if since is not None:
            segments.check(record.segments, since, record.floor_offset)
        return await self._parts.writer.append(record.stretch, body, id=id, since=since)

    async def append_own(self, body: Mapping[str, Any], *, id: str) -> Appended:
        """Store an event of the fabric's own (presence, control) in the participant's name."""
        record = await self._parts.open()
        return await self._parts.writer.append(record.stretch, body, id=id, since=None, own=True)

    def run(self, id: str | None = None, *, window_s: float = WINDOW_S, parent: str | None = None) -> OpenRun:
        """Claim a run: `async with session.run() as run:`; see `Run`."""
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
        deadline_ms: int = 5000,
        id: str | None = None,
    ) -> Appended:
        """Ask a run to `cancel` or `interrupt` (stop, its output kept), to `steer` (take `body["text"]` into account)
        or to `redirect` (stop, and answer `body["message"]` instead).

        A run that has not begun yet hears it when it does. Exactly one outcome comes as an event: `control.accepted`,
        `control.rejected` with a `reason`, or `control.expired` when nobody has answered within `deadline_ms` (1 to
        600,000). An author who has not stopped by then is told of (`control.overdue`) and the run is ended without
        him. `id`: sent again under one, the request is stored once. Raises `RunClosed` when the run has ended,
        `InvalidRequest`.
        """
        return await controls.request(self._parts, action, run, body, deadline_ms, id)

    async def outcome(self, asked: Appended) -> Event:
        """Wait for what becomes of a control request, `asked` being what `control` returned; there is always an end.

        Its type is `control.accepted`, `control.rejected` or `control.expired`. Raises `SessionClosed`, `SessionGone`.
        """
        before = Offset(asked.offset.segment, asked.offset.sequence - 1)
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

        `id`: the event's, for trying again. Raises `InvalidRequest` when there is no such message of a user.
        """
        return await branching.regenerate(self._parts, message, pool, id)

    async def edit(self, message: str, text: str, *, pool: str = "default", id: str | None = None) -> Appended:
        """Say something else in place of a user's message; that one and what followed it can be selected again.

        `id`: the new message's and its event's, for trying again. Raises `InvalidRequest` when there is no such
        message of a user.
        """
        return await branching.edit(self._parts, message, text, pool, id)

    async def runs(self) -> list[RunSeen]:
        """Return the session's runs as they are now, oldest first: who makes them, and how they stand or ended."""
        return await self._parts.history.runs()

    async def set_policy(self, /, **changes: Any) -> Policy:
        """Change what becomes of messages that come while an agent is at work, for every device; return the whole.

        `when_busy`: queue, concurrent, interrupt, steer or reject; `answer_within_s`: 1 to 86,400. Raises
        `InvalidRequest`, `Forbidden` (users), `SessionClosed`, `BrokerUnavailable`.
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

    def join(
        self, data: Mapping[str, Any] | None = None, *, status: str | None = None, device: str | None = None
    ) -> Joined:
        """Be present: `async with session.join(status="idle") as member:`, with `member.update(…)`.

        `data` is yours, 4 KiB at most; `status` is thinking, tool, waiting, idle or None; `device` names this process
        where it is not given. Others see `presence.joined`, `presence.updated` and `presence.left`; a process that
        dies has left within its lease of two seconds. Raises `TooLarge`, `InvalidRequest`, `BrokerUnavailable`.
        """
        return Joined(self._parts, data or {}, status, device)

    async def members(self) -> list[Member]:
        """Return who is there, each device once, those first who have been there longest."""
        await self.record(create=False)
        return await self._parts.common.presence.members(self.place)

    async def inspect(self, *, limit: int = 2000) -> Findings:
        """Find out what can be found of the session, by whoever looks after it: the newest `limit` (1-100,000) of its
        milestones, who is there and whose processes live, how far its workers and readers have come. No delta is read.

        Raises `SessionNotFound`, `SessionGone`, `InvalidRequest`, `BrokerUnavailable`.
        """
        return await inspect(self._parts, limit)

    def floor(self, pool: str = "default") -> Floor:
        """Take the floor of a pool in hand: who has it, offers, hand-over. No I/O. Raises `InvalidName`."""
        return Floor(self._parts, pool)

    # --- reading ----------------------------------------------------------------------------------

    async def head(self) -> Offset:
        """Return the newest event's offset."""
        return await self._parts.history.head()

    async def newest_of_run(self, run: str) -> Event | None:
        """Return the newest of what claims a run and ends it: RUN_STARTED while it is under way; None: no such run."""
        record = await self._parts.directory.load(self.place)
        found = await self._parts.broker.log.newest(record.stretch, Wanted("own", run))
        return None if found is None else found.event()

    async def check(self, offset: Offset) -> None:
        """Raise `OffsetForeign` for an offset of another session, or of an earlier life of this one."""
        record = await self._parts.directory.load(self.place)
        segments.check(record.segments, offset, record.floor_offset)

    async def within(self, after: After, head: Offset) -> After:
        """Check an offset against the session's end; `head` when the events behind it have expired."""
        return await self._parts.history.within(after, head)

    def read(
        self, after: After = "start", *, upto: Offset | None = None, deltas: Deltas = "open"
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read what is stored, in batches of records; see `follow` for events and for what happens next."""
        return self._parts.history.read(after, upto=upto, deltas=deltas)

    async def history(self, *, before: Offset | Literal["tail"] = "tail", limit: int = 100) -> Page:
        """Return a page of events, oldest first; `page.previous` is the next `before`."""
        return await self._parts.history.back(before, limit)

    async def messages(
        self, *, before: Offset | None = None, limit: int = 100, branch: Literal["all", "visible"] = "all"
    ) -> Messages:
        """Return messages, oldest first: completed ones, and the text so far of open runs.

        `branch="visible"`: of edits and answers made anew those alone that are shown.
        """
        await self.record()
        return await self._parts.history.messages(before, limit, visible=branch == "visible")

    def follower(self, sink: FollowSink, *, after: After = "tail", deltas: Deltas = "all") -> Follower:
        """Return a follower that calls `sink`; the gateway's way, without a queue between, and with all that users
        do not see."""
        return self._parts.follower(sink, after=after, deltas=deltas)

    async def follow(self, after: After = "start", *, deltas: Deltas = "open") -> AsyncGenerator[Event, None]:
        """Yield every event behind an offset, then each that happens, for ever; survives a lost broker.

        In the session's order; an event that the live path lost is found within about a second and yielded then,
        behind later ones of other writers. `deltas="open"`: those of finished answers are left out, since what
        completes them follows. A caller that reads slowly is caught up from the log. Raises `OffsetGone`,
        `OffsetForeign`, `SessionGone`. Close it (`aclosing`) to end.
        """
        async with aclosing(following.follow(self._parts, after, deltas)) as events:
            async for event in events:
                yield event

    # --- what is current rather than history ------------------------------------------------------

    def state(self, document: str) -> Document:
        """Take a shared document in hand; no I/O. Raises `InvalidName`, `InvalidRequest` (an unknown `_` name)."""
        return Document(self._parts, document)

    async def documents(self) -> list[State]:
        """Return the session's documents, by name; those of the fabric's own (`_tools`, `_seen`) are not among them.

        Raises `SessionNotFound`, `SessionGone`.
        """
        return await states.documents(self._parts)

    async def watch_documents(self) -> AsyncGenerator[State, None]:
        """Yield every document, then each change of any, for ever; see `Document.watch`."""
        async with aclosing(states.watch(self._parts)) as changes:
            async for state in changes:
                yield state

    async def seen(self, offset: Offset, *, device: str = "default", connection: str | None = None) -> Offset:
        """Say that a device of this participant has read everything up to an event; return where its cursor is.

        A cursor never goes back: the larger offset stays. Others are told by a signal. `connection`: the one through
        which a gateway heard of it. Raises `OffsetForeign`, `SessionNotFound`, `SessionGone`.
        """
        return await seen.move(self._parts, self._origin(device, connection), offset)

    async def cursors(self) -> list[Cursor]:
        """Return how far each device of each participant has read. Raises `SessionNotFound`, `SessionGone`."""
        return await seen.cursors(self._parts)

    async def signal(self, body: Mapping[str, Any], *, device: str = "default", connection: str | None = None) -> None:
        """Send an ambient message, a JSON object of at most 64 KiB: not stored, at most once, to those who listen now.

        Raises `InvalidRequest`, `TooLarge`, `BrokerUnavailable`.
        """
        data = signals.spell_signal(self._origin(device, connection), body)
        await self._parts.broker.signals.send(self.place, data)

    async def on_signal(self, sink: Callable[[Signal], None]) -> Listening:
        """Call `sink` with what others signal from now on, browsers and agents alike; `close` what it returns to end.

        What is sent through this very object is not heard. `sink` runs on the event loop and must not raise or block.
        """

        def heard(said: Said) -> None:
            if said.op == "signal" and said.connection != self._voice:
                sink(Signal(**said.fields))

        return await self.on_said(heard)

    async def on_said(self, sink: Callable[[Said], None]) -> Listening:
        """Call `sink` with signals and moved cursors as they are under way; the gateway's way."""

        def heard(data: bytes) -> None:
            said = signals.read(data)
            if said is None:
                log.info("signal_unreadable", session=self.name, bytes=len(data))
            else:
                sink(said)

        return await self._parts.broker.signals.listen(self.place, heard)

    @cached_property
    def _voice(self) -> str:
        """What tells this object from others in signals."""
        return new_id("v")

    def _origin(self, device: str, connection: str | None) -> Origin:
        return Origin(connection or self._voice, self._parts.identity.participant, device)
