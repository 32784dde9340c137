"""A follower on the SDK: it notes all that it gets, rewinds and marks too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from session_fabric import Fabric, Session
from session_fabric.words.errors import FabricError
from session_fabric.words.positions import Offset
from session_fabric.words.wire import Record

from tests.fault.history import Event
from tests.fault.process import Part
from tests.support.waiting import eventually

_READ_S = 60.0


def noted(record: Record) -> Event:
    event = record.event()
    return Event(
        offset=str(event.offset),
        id=None if event.at is not None else event.id,  # as on the wire: deltas have none
        type=event.type,
        actor=event.actor,
        run=event.run,
        at=event.at,
        ts=event.ts,
        body=event.body,
    )


class Sink:
    """Notes what a follower tells of one session. `upto`: up to where it has everything."""

    def __init__(self, part: Part, session: str) -> None:
        self._part = part
        self._session = session
        self.upto = ""

    def opened(self, after: str) -> None:
        self._part.journal.opened(self._part.who, self._session, after)

    def records(self, batch: Sequence[Record]) -> None:
        self._part.journal.got(self._part.who, self._session, [noted(record) for record in batch])

    def rewind(self, to: Offset) -> None:
        self._part.journal.rewound(self._part.who, self._session, str(to))

    def mark(self, offset: Offset) -> None:
        self.upto = max(self.upto, str(offset))
        self._part.journal.marked(self._part.who, self._session, str(offset))

    def live(self) -> None: ...
    def connected(self, connected: bool) -> None: ...

    def ended(self, error: FabricError) -> None:
        raise error


async def read(part: Part) -> None:
    """Follow every session from its start, until told up to where; end when all of it is there."""
    async with (
        Fabric.connect(part.broker, participant=f"supervisor:{part.host}", timeout_s=60.0) as fabric,
        asyncio.TaskGroup() as group,
    ):
        sinks = {name: Sink(part, name) for name in part.sessions}
        for name, sink in sinks.items():
            group.create_task(follow(fabric.session(name), sink))
        await part.ready()
        upto = await part.until_told("upto")
        try:
            await eventually(lambda: all(sinks[name].upto >= upto[name] for name in sinks), _READ_S)
        finally:
            part.say({"read": {name: sink.upto for name, sink in sinks.items()}})
            await part.until_told("leave")


async def follow(session: Session, sink: Sink) -> None:
    await session.record()
    sink.opened("start")
    await session.follower(sink, after="start", deltas="open").run()
