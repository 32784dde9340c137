"""What the rooms of a session share: the broker, who acts, and how the session is read and written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from session_fabric.absences import Absences
from session_fabric.counting import Metrics
from session_fabric.errands import Errands
from session_fabric.follow import Follower, FollowSink
from session_fabric.history import History
from session_fabric.holdings import Holdings
from session_fabric.loops import OwnLoop
from session_fabric.pace import Pace
from session_fabric.ports import Broker, Wanted
from session_fabric.presence import Presence
from session_fabric.records import Directory, SessionRecord
from session_fabric.room import Room
from session_fabric.rules.audience import sees_all
from session_fabric.tracing import Traces
from session_fabric.words.closing import Closed
from session_fabric.words.errors import SessionClosed, Unavailable
from session_fabric.words.events import SESSION_CREATED, Deltas
from session_fabric.words.names import check_session
from session_fabric.words.positions import After
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import Record
from session_fabric.writer import Identity, Writer

T = TypeVar("T")
# In whose name the fabric itself writes: what expires, what a dead process leaves.
SERVICE: Final = "service:fabric"


class Common(NamedTuple):
    """What all sessions of one connection share. `ended` hears of each run that has ended here, `errands` do what is
    left to do where nobody waits for it."""

    broker: Broker
    directory: Directory
    pace: Pace
    holdings: Holdings
    presence: Presence
    absences: Absences
    ended: Callable[[SessionRecord, str, int], None]
    errands: Errands
    documents: Room
    metrics: Metrics
    traces: Traces
    loop: OwnLoop


@dataclass(frozen=True, slots=True)
class Parts:
    """One session of a tenant, in the name of one participant."""

    common: Common
    identity: Identity
    place: Place
    history: History
    writer: Writer

    @classmethod
    def of(cls, common: Common, identity: Identity, name: str) -> Parts:
        place = Place(identity.tenant, check_session(name))
        log = common.broker.log
        history = History(log, common.directory, place, sees_all=sees_all(identity.role))
        return cls(common, identity, place, history, Writer(log, identity))

    @property
    def broker(self) -> Broker:
        return self.common.broker

    @property
    def directory(self) -> Directory:
        return self.common.directory

    def beside(self, name: str) -> Parts:
        """Return another session of the same tenant and participant."""
        return Parts.of(self.common, self.identity, name)

    def as_service(self) -> Parts:
        """Return the same session in the name of the fabric itself."""
        return Parts.of(self.common, Identity(self.identity.tenant, SERVICE), self.place.session)

    async def create(
        self, labels: Mapping[str, str] | None = None, participants: Sequence[str] = ()
    ) -> tuple[SessionRecord, bool]:
        record, made = await self.directory.ensure(self.place, labels, [*self.maker(), *participants])
        if made:
            # The id is the segment's, so that a creator who dies and tries again says it once.
            body = {"type": SESSION_CREATED}
            id = f"created-{record.segments[-1].id}"
            await self.writer.append(record.stretch, body, id=id, since=None, own=True)
        return record, made

    def maker(self) -> list[str]:
        """Return who takes part in what he makes: people; the agents and services that work for them do not."""
        return [] if self.identity.role in ("agent", "service") else [self.identity.participant]

    async def open(self) -> SessionRecord:
        """Return the record of a session that takes events, making the session if it is not there.

        Raises `InvalidRequest` in another event loop: who goes on from here leaves tasks behind where he is.
        """
        self.common.loop.check()
        return self.open_at_hand() or self._open((await self.create())[0])

    def open_at_hand(self) -> SessionRecord | None:
        """Return the same where it is at hand; None where `open` has to look."""
        record = self.directory.usable_at_hand(self.place)
        return None if record is None else self._open(record)

    async def open_existing(self) -> SessionRecord:
        """Return the record of a session that takes events. Raises `SessionNotFound`, `SessionClosed`."""
        return self._open(await self.directory.load(self.place))

    def _open(self, record: SessionRecord) -> SessionRecord:
        if record.state == "closed":
            raise SessionClosed(f"Session {self.place.session!r} is closed.", hint="Fork it, or begin another.")
        return record

    async def newest_own(self, record: SessionRecord, name: str) -> Record | None:
        """Return the newest event under a name of kind `own`, of this life of the session: who holds it, what came
        of it. From the leader. Raises `BrokerUnavailable`."""
        found = await self.broker.log.newest(record.stretch, Wanted("own", name))
        return found if found is not None and found.sequence > record.begin else None

    def follower(
        self, sink: FollowSink, *, after: After = "tail", deltas: Deltas = "all", kinds: Sequence[Kind] = ()
    ) -> Follower:
        return Follower(
            self.broker, self.directory, self.history, self.common.pace, sink, after=after, deltas=deltas, kinds=kinds
        )

    async def persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and make it again when the broker is back, for as long as it is away."""
        while True:
            try:
                return await call()
            except Closed:
                raise
            except Unavailable:
                await self.until_connected()

    async def until_connected(self) -> None:
        """Wait a moment, and until there is a connection. Raises `Closed`."""
        await asyncio.sleep(0.1)
        found = asyncio.Event()
        unhook = self.broker.on_connection(lambda _: found.set())
        try:
            while not self.broker.connected:
                if self.broker.closed:
                    raise Closed
                found.clear()
                await found.wait()
        finally:
            unhook()
