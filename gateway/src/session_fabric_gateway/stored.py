"""What the log holds for one reader, spelled: out of memory as far as somebody has lately read the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple

from session_fabric import Offset
from session_fabric.history import SNAPSHOT_FROM, Read
from session_fabric.words.delivered import Delivered, any_head_has, subjects_of
from session_fabric.words.events import RUN_ENDS
from session_fabric.words.positions import After
from session_fabric.words.wire import Record

from session_fabric_gateway.encoding import Refs, encoded, pieces, seen
from session_fabric_gateway.feed import Feed, Line
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.replays import Key, Piece

# What takes less than a turn is worth: who comes back from another gateway has missed a few events.
FEW: Final = 16
# What the live path has brought since is sent as it came, up to so many: about what one question to the broker brings.
_BROUGHT: Final = 256
_NOTHING: Final = Read(0, 0)
_SNAPSHOT: Final = f"\r\n{SNAPSHOT_FROM}:".encode()


class Portion(NamedTuple):
    """Bytes for a reader (maybe none), who has then had everything up to `position`.

    `read`: what was read for them, and for those that follow; `first`: the first event, where it is from the log.
    """

    data: bytes
    position: Offset
    read: Read
    first: Offset | None = None


Portions = AsyncGenerator[Portion, None]
From = Offset | Literal["start"]


class Stored:
    """Spells what the log holds, from when one comes until one is live; a little at a time, as it is taken."""

    def __init__(self, feed: Feed, line: Line, outbox: Outbox) -> None:
        self._feed = feed
        self._line = line
        self._key = Key(line.sub, line.form == "sse")
        # What has deltas is spelled otherwise for those who get them compact.
        self._passing = self._key._replace(compact=line.form == "compact")
        self._outbox = outbox
        self._refs = Refs(line.sub) if line.form == "compact" else None

    async def read(self, after: After, upto: Offset) -> Portions:
        """Yield what is behind an offset, up to a head, in order. Raises what `Session.read` does."""
        if after == "tail":
            return
        life = await self._opened(after, upto)
        while True:
            at = after.sequence if isinstance(after, Offset) else 0
            while life is not None and (piece := self._find(life, at)) is not None:
                await self._turn(piece.read.events)
                if self._find(life, at) is piece:  # else it was let go of: something of it is removed
                    self._begin_refs()
                    at, after = piece.upto, Offset(upto.segment, piece.upto)
                    yield Portion(piece.data, after, piece.read)
            if isinstance(after, Offset) and (after >= upto or self._is_near(after)):
                return
            # From here on it is in the log alone; maybe not for long.
            before, first = after, None
            async with aclosing(self._from_log(after, upto, life)) as portions:
                async for portion in portions:
                    after, first = portion.position, first or portion.first
                    yield portion
                    if life is not None and self._find(life, after.sequence) is not None:
                        break
                else:
                    yield Portion(b"", upto, _NOTHING)
                    return
            await self._feed.session.check_kept(before, first)

    async def _opened(self, after: From, upto: Offset) -> int | None:
        """Return what the replay wants of this reader; None where it has nothing for it, and keeps nothing."""
        if isinstance(after, Offset) and after.segment != upto.segment:
            return None
        at = after.sequence if isinstance(after, Offset) else 0
        # The leader is asked where there is something to be had that may have been removed.
        fresh = self._holds(at)
        return self._feed.replay.open(await self._feed.session.record(create=False, fresh=fresh), upto)

    async def _from_log(self, after: From, upto: Offset, life: int | None) -> Portions:
        at = after.sequence if isinstance(after, Offset) else 0
        passed = self._feed.replay.passed
        async with aclosing(self._feed.session.read(after, upto=upto)) as batches:
            async for records in batches:
                read = Read.of(records)
                for piece in self._cut(newest_snapshots(records)):
                    await self._turn(len(piece))
                    passing = any(map(_is_delta, subjects_of(piece)))
                    if passing:
                        self._begin_refs()
                    data, last = self.spelled(piece), piece[-1].offset
                    # What could not be read may be there again.
                    needed = not passing or passed == self._feed.replay.passed
                    if life is not None and needed and not _malformed(piece):
                        kept = Piece(data, last.sequence, Read.of(piece), passing)
                        self._feed.replay.keep(life, self._passing if passing else self._key, at, kept)
                    at = last.sequence
                    yield Portion(data, last, read, piece[0].offset)
                    read = _NOTHING
        if life is not None and at < upto.sequence:
            self._feed.replay.keep(life, self._key, at, Piece(b"", upto.sequence, _NOTHING))

    def _cut(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """Cut into pieces, that end where a piece begins that is kept."""
        for piece in pieces(records):
            begin = 0
            if self._feed.replay.furthest >= piece[0].sequence:
                for end, record in enumerate(piece, 1):
                    if end < len(piece) and self._holds(record.sequence):
                        yield piece[begin:end]
                        begin = end
            yield piece[begin:] if begin else piece

    def _find(self, life: int, at: int) -> Piece | None:
        replay = self._feed.replay
        return replay.find(life, self._key, at) or replay.find(life, self._passing, at)

    def _holds(self, at: int) -> bool:
        replay = self._feed.replay
        return replay.holds(self._key, at) or replay.holds(self._passing, at)

    def _is_near(self, at: Offset) -> bool:
        """Say whether all behind an offset is in the feed's memory, and little, and without deltas of what has ended:
        then the log is not asked for it."""
        ring = self._feed.ring
        if not ring.covers(at) or len(ring.after(at)) > _BROUGHT:
            return False
        return all(_is_delta(record.subject) or record.type not in RUN_ENDS for record in ring.after(at))

    def _begin_refs(self) -> None:
        """Announce anew what deltas refer to: a piece stands by itself, whoever is sent it, and whatever before it."""
        if self._refs is not None:
            self._refs = Refs(self._line.sub)

    async def _turn(self, events: int) -> None:
        """Return when the connection takes more, and so many events may be spelled, or sent out of memory."""
        await self._outbox.drained()
        if events > FEW:
            await self._outbox.sender.history.turn()

    def spelled(self, records: Sequence[Record]) -> bytes:
        """Return the bytes that bring events to this reader, behind those that it has had."""
        return encoded(self._line.sub, self._line.form, self._refs, seen(records, self._line.sight))


def newest_snapshots(records: Sequence[Record]) -> Sequence[Record]:
    """Leave out snapshots of which a later one is there, of the same message: each has all that the one before had."""
    if not any_head_has(records, _SNAPSHOT):
        return records
    snapshots = [record for record in records if _SNAPSHOT in record.head]
    if len(snapshots) < 2:
        return records
    newest = {(record.run, _message(record)): record.sequence for record in snapshots}
    replaced = {record.sequence for record in snapshots}.difference(newest.values())
    return [record for record in records if record.sequence not in replaced]


def _message(record: Record) -> object:
    message = record.event().body.get("message")
    return message.get("id") if isinstance(message, dict) else record.sequence


def _malformed(records: Sequence[Record]) -> bool:
    if isinstance(records, Delivered) and records.ids is not None:
        return False
    return any(record.malformed for record in records)


def _is_delta(subject: str) -> bool:
    return subject.startswith("sf.tok.")
