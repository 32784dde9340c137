"""Shared documents as this gateway watches them: one subscription a session, whatever the number of connections."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from contextvars import Context
from typing import TYPE_CHECKING, Final

import orjson
import structlog
from session_fabric import Fabric, FabricError, Session, SessionRecord, State
from session_fabric.rules.states import MOST_DOCUMENTS, OWN
from session_fabric.words.errors import LimitExceeded
from session_fabric.words.subjects import Place

from session_fabric_gateway.admission import forbidden, takes_part
from session_fabric_gateway.codes import Defect, facts_of
from session_fabric_gateway.endings import end
from session_fabric_gateway.framing import op_frame, text_frame
from session_fabric_gateway.outbox import Outbox

if TYPE_CHECKING:
    from session_fabric_gateway.connection import Connection

log = structlog.get_logger()

# Stands for every document that participants write.
ALL: Final = "*"


class Watch:
    """What one connection watches in one session. Of each document the newest value alone waits to be sent, so that
    what waits for a slow connection is bounded by the documents that there are."""

    def __init__(self, outbox: Outbox) -> None:
        self.documents: set[str] = set()
        self._outbox = outbox
        self._due: dict[str, bytes] = {}
        self._wake = asyncio.Event()
        self._last = b""

    def offer(self, document: str, frame: bytes) -> None:
        if document in self.documents or (ALL in self.documents and document not in OWN):
            self._due[document] = frame
            self._wake.set()

    def forget(self) -> None:
        """Leave out what is not watched any more."""
        due, self._due = self._due, {}
        for document, frame in due.items():
            self.offer(document, frame)

    def cut(self, frame: bytes) -> None:
        """Send nothing more but this, and be done."""
        self.documents.clear()
        self._due.clear()
        self.end(frame)

    def end(self, frame: bytes) -> None:
        """Send what is due, then this, and be done."""
        self._last = frame
        self._wake.set()

    async def run(self) -> None:
        """Send what is due at the connection's pace."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                await self._outbox.drained()
                if self._due:
                    self._outbox.put(self._due.pop(next(iter(self._due))))
                # The write happens at the end of the tick; only then is it known whether more may follow.
                await asyncio.sleep(0)
            if self._last:
                self._outbox.put(self._last)
                return


class Watched:
    """A session whose documents are watched: their newest frames, and who gets them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.watches: dict[str, tuple[Watch, asyncio.Task[None]]] = {}
        self.watchers: dict[str, Connection] = {}
        self.unhook = session.on_record(self._record_changed)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.error: FabricError | None = None
        self._frames: dict[str, bytes] = {}

    def add(self, watch: Watch, document: str) -> None:
        """Let a connection have a document, or `ALL`: as it is, then each change."""
        watch.documents.add(document)
        if document not in self.tasks:
            self.tasks[document] = asyncio.get_running_loop().create_task(
                self._follow(document), name="watch", context=Context()
            )
        for name, frame in self._frames.items():
            if name == document or document == ALL:
                watch.offer(name, frame)

    def forget(self) -> None:
        """Leave out values that nobody keeps right any more."""
        followed = self.tasks.keys()
        for name in list(self._frames):
            if name not in followed and (ALL not in followed or name in OWN):
                del self._frames[name]

    async def _follow(self, document: str) -> None:
        states = self.session.watch_documents() if document == ALL else self.session.state(document).watch()
        try:
            async with aclosing(states):
                async for state in states:
                    self._show(state)
        except FabricError as error:
            self._end(error)
        except Exception as error:
            log.exception("watch_failed", session=self.session.name)
            self._end(Defect(f"The watch failed: {type(error).__name__}."))

    def _show(self, state: State) -> None:
        value = {"op": "state", "session": self.session.name, **state.plain()}
        frame = self._frames[state.document] = text_frame(orjson.dumps(value))
        if state.body is None:
            del self._frames[state.document]
        for watch, _ in self.watches.values():
            watch.offer(state.document, frame)

    def check(self, connection: Connection, record: SessionRecord | None = None) -> None:
        """Shut a connection out that may not read the session any more."""
        grant, found = connection.grant, self.watches.get(connection.id)
        if grant is None or found is None:
            return
        if grant.grants.allows(self.session.name, "read") and (record is None or takes_part(grant, record)):
            return
        error = forbidden(grant, self.session.name, "read")
        facts = facts_of(error)
        facts.pop("retryable")
        found[0].cut(op_frame("gone", **{**facts, "session": self.session.name}))

    def _record_changed(self, record: SessionRecord | None) -> None:
        if record is not None:
            for connection in list(self.watchers.values()):
                self.check(connection, record)

    def _end(self, error: FabricError) -> None:
        if self.error is None:
            self.error = error
            facts = facts_of(error)
            facts.pop("retryable")
            for watch, _ in self.watches.values():
                watch.end(op_frame("gone", **{**facts, "session": self.session.name}))


class Watches:
    """All watched sessions of the process; owns the tasks that follow them."""

    def __init__(self, fabric: Fabric, most: int) -> None:
        self._fabric = fabric
        self._most = most
        self._watched: dict[Place, Watched] = {}
        # By connection: what it watches, in which session.
        self._mine: dict[str, dict[Place, Watch]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, connection: Connection, place: Place, document: str) -> None:
        """Send a connection a document's value as it is (behind what it is answered now), then each change.

        Raises `LimitExceeded` when it watches too many documents of the session, or of all.
        """
        mine = self._mine.get(connection.id, {})
        self._check_room(mine, place, document)
        watched = self._watched.get(place)
        if watched is None or watched.error is not None:
            # Reading needs no name; what is written goes through the participant's own view.
            view = self._fabric.view(tenant=place.tenant, participant="service:gateway", gateway=True)
            watched = self._watched[place] = Watched(view.session(place.session))
        found = watched.watches.get(connection.id)
        if found is None:
            watch = Watch(connection.outbox)
            task = connection.spawn(watch.run())
            found = watched.watches[connection.id] = (watch, task)
            watched.watchers[connection.id] = connection
            self._mine.setdefault(connection.id, {})[place] = watch
            task.add_done_callback(lambda ended: self._left(place, watched, connection.id, ended))
        watched.add(found[0], document)

    def _check_room(self, mine: dict[Place, Watch], place: Place, document: str) -> None:
        here = mine[place].documents if place in mine else set()
        if document in here:
            return
        for count, most, of in (
            (len(here), MOST_DOCUMENTS, "documents of a session, or all of them as one"),
            (sum(len(watch.documents) for watch in mine.values()), self._most, "documents in all sessions together"),
        ):
            if count >= most:
                raise LimitExceeded(
                    f"A connection watches at most {most} {of}.", hint="Unwatch one, or watch all.", limit=most
                )

    def unwatch(self, connection: Connection, place: Place, document: str | None) -> None:
        """Send no more of a document, or (None) of any; what is not watched is left alone."""
        watched = self._watched.get(place)
        found = watched.watches.get(connection.id) if watched else None
        if found is None:
            return
        watch, task = found
        watch.documents.discard(document or "")
        watch.forget()
        if watched is not None and document is not None:
            self._let_go(watched, document)
        if watched is not None and (document is None or not watch.documents):
            task.cancel()
            self._left(place, watched, connection.id, task)

    def check(self, connection: Connection, record: SessionRecord | None = None) -> None:
        """Shut a connection out of the sessions that its grant has no more; or out of that of a record, by it."""
        if connection.id in self._mine:
            for watched in list(self._watched.values()):
                if record is None or watched.session.place == record.place:
                    watched.check(connection, record)

    def sessions_of(self, connection: Connection) -> list[str]:
        """Return the sessions whose documents a connection watches."""
        return [one.session.name for one in self._watched.values() if connection.id in one.watches]

    def _left(self, place: Place, watched: Watched, connection: str, task: asyncio.Task[None]) -> None:
        found = watched.watches.get(connection)
        if found is None or found[1] is not task:
            return
        del watched.watches[connection]
        del watched.watchers[connection]
        mine = self._mine.get(connection, {})
        if mine.get(place) is found[0]:
            del mine[place]
        if not mine:
            self._mine.pop(connection, None)
        if not watched.watches:
            watched.unhook()
            if self._watched.get(place) is watched:
                del self._watched[place]
            for following in watched.tasks.values():
                self._end(following)

    def _let_go(self, watched: Watched, document: str) -> None:
        """Follow a document no more that nobody watches."""
        if not any(document in watch.documents for watch, _ in watched.watches.values()):
            following = watched.tasks.pop(document, None)
            if following is not None:
                watched.forget()
                self._end(following)

    def _end(self, following: asyncio.Task[None]) -> None:
        following.cancel()
        self._ending.add(following)
        following.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        tasks = [task for watched in self._watched.values() for task in watched.tasks.values()]
        await end([*tasks, *self._ending])
