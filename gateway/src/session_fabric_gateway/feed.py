"""One session as this gateway follows it: one subscription and one encoding, whatever the number of readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Final

import orjson
from session_fabric import Absence, FabricError, Offset, Session, SessionRecord
from session_fabric.follow import Follower
from session_fabric.words.events import REDACTIONS
from session_fabric.words.signals import Said
from session_fabric.words.wire import Record

from session_fabric_gateway.encoding import Form, Refs, Sight, encoded, seen
from session_fabric_gateway.framing import op_frame, sse_block, text_frame
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.replays import Replay, Shelf
from session_fabric_gateway.ring import Ring

# The number of a session and sight in this process: the same for all its readers, so that they share frames.
_numbers: Final = count(1)
# How long an event was under way is measured for one batch in so many.
_SAMPLED: Final = 16
_batches: Final = count()
# To so many readers what happens is written at once; to more, a thousand perhaps, with all else of the tick.
_FEW: Final = 8


class Line:
    """The live readers who see the same in one form; they all get the same bytes."""

    __slots__ = ("boxes", "form", "refs", "sight", "sub")

    def __init__(self, sub: int, sight: Sight, form: Form) -> None:
        self.sub = sub
        self.sight = sight
        self.form: Form = form
        self.refs = Refs(sub) if form == "compact" else None
        self.boxes: dict[object, Outbox] = {}

    def events(self, records: Sequence[Record]) -> bytes:
        return encoded(self.sub, self.form, self.refs, seen(records, self.sight))

    def said(self, op: str, **fields: str | bool) -> bytes:
        """Return a frame about the subscription itself: `mark`, `rewind`, `agent`."""
        if self.form == "sse":
            return sse_block(op, **fields)
        return op_frame(op, sub=self.sub, **fields)

    def put(self, data: bytes) -> None:
        if data and len(self.boxes) <= _FEW:
            for box in self.boxes.values():
                box.put_first(data)
        elif data:
            for box in self.boxes.values():
                # Outbox.put, written out: this runs once for each event and reader.
                if not box.pending:
                    box.sender.due(box)
                box.pending.append(data)


class Feed:
    """Follows one session for all its readers here; a `FollowSink`."""

    def __init__(
        self,
        session: Session,
        shelf: Shelf,
        on_ended: Callable[[Feed], None],
        on_delivered: Callable[[Record], None],
    ) -> None:
        self.session = session
        self.ring = Ring()
        self.replay = Replay(shelf)
        self.error: FabricError | None = None
        self.readers = 0
        self.idle_since: float | None = None
        self.delivered_events = 0
        self.follower: Follower = session.follower(self)
        self._on_ended = on_ended
        self._on_delivered = on_delivered
        self._subs: dict[Sight, int] = {}
        self._lines: dict[tuple[Sight, Form], Line] = {}
        self._progress = asyncio.Event()
        self._on_gone: dict[object, Callable[[FabricError], None]] = {}
        self.marked: Offset | None = None
        self._reading = asyncio.Lock()
        self._since_mark: tuple[Offset, Sequence[Record]] | None = None
        self._on_rewound: dict[object, Callable[[Offset], None]] = {}
        # By run: its agent's connection has ended, and what becomes of that is not known yet.
        self._away: dict[str, Absence] = {}

    def line(self, sight: Sight, form: Form) -> Line:
        line = self._lines.get((sight, form))
        if line is None:
            sub = self._subs.setdefault(sight, 0) or next(_numbers)
            self._subs[sight] = sub
            line = self._lines[sight, form] = Line(sub, sight, form)
        return line

    async def progress(self, timeout_s: float) -> bool:
        """Wait until something has been delivered; False when nothing was in this time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def when_gone(self, reader: object, tell: Callable[[FabricError], None] | None) -> None:
        """Call `tell` when the session ends; None takes it back."""
        if tell is None:
            self._on_gone.pop(reader, None)
        else:
            self._on_gone[reader] = tell

    async def since_mark(self, upto: Offset) -> Sequence[Record]:
        """Return what is stored between the last mark and an offset, live path or not; read once, whoever asks.

        Of messages that are completed without their deltas. Raises what `Session.read` does.
        """
        async with self._reading:
            if self._since_mark is None or self._since_mark[0] != upto:
                found: list[Record] = []
                if self.marked is not None and self.marked < upto:
                    async with aclosing(self.session.read(self.marked, upto=upto)) as batches:
                        async for records in batches:
                            found += records
                self._since_mark = upto, found
            return self._since_mark[1]

    def when_rewound(self, reader: object, tell: Callable[[Offset], None] | None) -> None:
        """Call `tell` when what is behind an offset comes again; None takes it back. For who reads the ring itself."""
        if tell is None:
            self._on_rewound.pop(reader, None)
        else:
            self._on_rewound[reader] = tell

    def heard(self, said: Said) -> None:
        """Hand a signal or a cursor on to all live readers but the one it is from; who is slow misses it."""
        for (sight, form), line in self._lines.items():
            if form == "sse" or not line.boxes:
                continue
            frame = text_frame(orjson.dumps({"op": said.op, "sub": self._subs[sight], **said.fields}))
            for reader, box in line.boxes.items():
                if reader != said.connection and not box.paused:
                    box.put(frame)

    def agent(self, told: Absence) -> None:
        """Tell all live readers that the agent of a run is away, or back; whoever comes to be live meanwhile, too."""
        if told.connected:
            self._away.pop(told.run, None)
        else:
            self._away[told.run] = told
        self._say("agent", **told._asdict())

    def away(self, line: Line) -> bytes:
        """Return what a reader is told of agents that are away, when it comes to be live."""
        return b"".join(line.said("agent", **told._asdict()) for told in self._away.values())

    def record_changed(self, _: SessionRecord | None) -> None:
        """Something may be removed, or is: whoever removes says so in the session's record first."""
        self.replay.forget()

    # --- what the follower tells --------------------------------------------------------------------

    def records(self, batch: Sequence[Record]) -> None:
        self.ring.add(batch)
        if next(_batches) % _SAMPLED == 0:
            self._on_delivered(batch[0])
        for line in self._lines.values():
            if line.boxes:
                line.put(line.events(batch))
                self.delivered_events += len(batch) * len(line.boxes)
        removed = False
        for record in batch:
            kind, _, _, name, _ = record.parts
            if kind == "own":
                self.session.heard_own(record)
                self._away.pop(name, None)  # it is over, or somebody else's, or goes on
            if kind != "tok" and record.run is not None:
                self.replay.pass_by()
            if name == REDACTIONS:
                removed = True
        if removed:
            self.ring.forget()  # it may have what was removed
            self.replay.forget()
            self._since_mark = None
        self._progressed()

    def rewind(self, to: Offset) -> None:
        self.ring.rewind(to)
        for tell in list(self._on_rewound.values()):
            tell(to)
        self._say("rewind", to=str(to))

    def mark(self, offset: Offset) -> None:
        self.marked = offset
        self.ring.reached(offset)
        self._say("mark", offset=str(offset))
        self._progressed()

    def live(self) -> None:
        """The follower begins at the tail: its `mark` has told from where on the ring is whole."""

    def connected(self, connected: bool) -> None:
        """Each connection is told once, by the gateway; what was removed meanwhile nobody has told us."""
        self.replay.forget()

    def ended(self, error: FabricError) -> None:
        self.error = error
        self.replay.forget()
        for tell in list(self._on_gone.values()):
            tell(error)
        self._progressed()
        self._on_ended(self)

    def _say(self, op: str, **fields: str | bool) -> None:
        for line in self._lines.values():
            if line.boxes:
                line.put(line.said(op, **fields))

    def _progressed(self) -> None:
        self._progress.set()
        self._progress.clear()
