"""What is current of a session rather than history: who is there, documents, read markers, signals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any

from session_fabric import seen, states
from session_fabric.absences import Absence
from session_fabric.checkpoints import Checkpoints
from session_fabric.floors import Floor
from session_fabric.joining import Joined
from session_fabric.parts import Parts
from session_fabric.ports import Listening
from session_fabric.presence import Member
from session_fabric.rules.states import State
from session_fabric.rules.unread import Cursor
from session_fabric.states import Document
from session_fabric.words import signals
from session_fabric.words.arguments import check_offset, check_text
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.logs import log
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.words.signals import Origin, Said, Signal
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record


class Present:
    """A facet of `Session`."""

    name: str
    place: Place
    _parts: Parts

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
        await self._parts.directory.load(self.place)
        return await self._parts.common.presence.members(self.place)

    def floor(self, pool: str = "default") -> Floor:
        """Take the floor of a pool in hand: who has it, offers, hand-over. No I/O. Raises `InvalidName`."""
        return Floor(self._parts, pool)

    def state(self, document: str) -> Document:
        """Take a shared document in hand; no I/O. Raises `InvalidName`, `InvalidRequest` (an unknown `_` name)."""
        return Document(self._parts, document)

    @property
    def checkpoints(self) -> Checkpoints:
        """What agents keep of the session between their steps, for themselves: values by name; see `Checkpoints`."""
        return Checkpoints(self._parts)

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
        return await seen.move(
            self._parts, self._origin(check_id(device, "device"), connection), check_offset(offset, "offset")
        )

    async def cursors(self) -> list[Cursor]:
        """Return how far each device of each participant has read. Raises `SessionNotFound`, `SessionGone`."""
        return await seen.cursors(self._parts)

    async def signal(self, body: Mapping[str, Any], *, device: str = "default", connection: str | None = None) -> None:
        """Send an ambient message, a JSON object of at most 64 KiB: not stored, at most once, to those who listen now.

        Raises `InvalidRequest`, `TooLarge`, `BrokerUnavailable`.
        """
        data = signals.spell_signal(self._origin(check_text(device, "device"), connection), body)
        await self._parts.broker.signals.send(self.place, data)

    async def on_signal(self, sink: Callable[[Signal], None]) -> Listening:
        """Call `sink` with what others signal from now on, browsers and agents alike; `close` what it returns to end.

        What is sent through this very object is not heard. `sink` runs on the event loop and must not raise or block.
        """

        _check_sink(sink)

        def heard(said: Said) -> None:
            if said.op == "signal" and said.connection != self._voice:
                sink(Signal(**said.fields))

        return await self.on_said(heard)

    async def on_absence(self, sink: Callable[[Absence], None]) -> Listening:
        """Call `sink` when the connection of an agent that has a run of this session ends, and when it has one again.

        Told within milliseconds and not stored; what becomes of an agent that does not come back is an event of the
        log (`run.orphaned`, `RUN_ERROR`) a quarter of a second later. Nothing is told where this process has not the
        fabric's own rights at the broker, or the broker does not tell of connections' ends. `sink` runs on the event
        loop and must neither raise nor block; `close` what it returns to end. Raises `BrokerUnavailable`.
        """
        _check_sink(sink)
        return await self._parts.common.absences.hear(self.place, sink)

    def heard_own(self, record: Record) -> None:
        """Take what a follower hears of runs, so that `on_absence` needs not look it up; the gateway's way."""
        self._parts.common.absences.heard(self.place, record)

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


def _check_sink(sink: object) -> None:
    if not callable(sink):
        raise InvalidRequest(f"sink is {sink!r:.60}.", hint="Use a function: what happens is handed to it.")
