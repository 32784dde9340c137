"""How durable streams end: what is removed, and what is kept for forks that read it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from session_fabric import audit
from session_fabric.ports import Broker
from session_fabric.records import SessionRecord
from session_fabric.rules.appends import Asked, Standing
from session_fabric.rules.bounds import check_shares
from session_fabric.streams import entries
from session_fabric.streams.ledger import Ledger
from session_fabric.streams.records import StreamDirectory, StreamRecord, fork_name
from session_fabric.words.errors import Conflict, StreamNotFound
from session_fabric.words.positions import ZERO
from session_fabric.words.subjects import Place

_TRIES: Final = 20


class Removers:
    """Removes streams. Any number of processes may at once, also the same one, while it is made anew: what one of them
    removes is of the life that it was asked to, and never of the next."""

    def __init__(self, broker: Broker, directory: StreamDirectory, ledger: Ledger) -> None:
        self._broker = broker
        self._directory = directory
        self._ledger = ledger

    async def hold(self, place: Place, segments: Collection[int], fork: StreamRecord) -> None:
        """Have a stream know its fork, which reads these segments of it, so that they are not removed.

        Raises `StreamNotFound` where they are gone, `StreamGone`, `LimitExceeded`.
        """
        name = fork_name(fork)

        def held(source: SessionRecord) -> SessionRecord:
            if not all(source.has(segment) for segment in segments):
                raise self._directory.not_found(place)  # what is there now is a next life
            if name in source.forks:
                return source
            if source.state == "deleted" and not source.forks:
                raise self._directory.gone(source)  # it is being erased
            check_shares(len(source.forks) + 1, len(fork.segments))
            return source.model_copy(update={"forks": (*source.forks, name)})

        await self._directory.change(place, held)

    async def release(self, place: Place, fork: StreamRecord) -> StreamRecord | None:
        """Tell a source that a fork is gone; return it if nothing keeps it any more."""
        name = fork_name(fork)
        try:
            source = await self._directory.change(
                place, lambda r: r.model_copy(update={"forks": tuple(one for one in r.forks if one != name)})
            )
        except StreamNotFound:
            return None
        assert isinstance(source, StreamRecord)
        return source if source.state == "deleted" and not await self._kept(source) else None

    async def remove(self, place: Place, by: str | None, reason: str = "") -> None:
        """Remove a stream, as it is now; what forks of it read stays until they are gone. Raises `StreamNotFound`."""
        found = await self._directory.find(place, fresh=True)
        if found is None:
            raise self._directory.not_found(place)
        assert isinstance(found[0], StreamRecord)
        await self.end(found[0], by, reason)

    async def end(self, record: StreamRecord, by: str | None, reason: str = "") -> None:
        """As `remove`, of this life of the path alone. The audit has by whom, the first of those who do it at once.
        `by`: None where its time has passed, or it was never whole. Raises `StreamNotFound`."""
        life, dead = record.life, await self._dead(record)
        if by is not None:
            facts = {
                "reason": reason,
                "kept_for": [name.partition(" ")[2] for name in record.forks if name not in dead],
            }
            id = f"deleted-{life}"
            await audit.note_once(self._broker, record.tenant, record.session, by, "stream.deleted", id, facts)

        def deleted(now: SessionRecord) -> SessionRecord:
            self._same(now, life)
            return now.model_copy(
                update={"state": "deleted", "forks": tuple(one for one in now.forks if one not in dead)}
            )

        record = self._same(await self._directory.change(record.place, deleted), life)
        self._ledger.forget(record.place)
        if record.forks:
            await self._mark(record)
        else:
            await self._erase(record)

    async def cleared(self, record: StreamRecord) -> bool:
        """Bring a deletion to its end that somebody else began; False while forks need what the stream held."""
        if await self._kept(record):
            return False
        await self._erase(record)
        return True

    def _same(self, record: SessionRecord, life: int) -> StreamRecord:
        assert isinstance(record, StreamRecord)
        if record.life != life:
            raise self._directory.not_found(record.place)
        return record

    async def _kept(self, record: StreamRecord) -> bool:
        """Say whether a deleted stream has forks yet; who is named as one, and is none, is named no more."""
        life, dead = record.life, await self._dead(record)
        try:
            record = self._same(
                await self._directory.change(
                    record.place,
                    lambda r: self._same(r, life).model_copy(
                        update={"forks": tuple(one for one in r.forks if one not in dead)}
                    ),
                ),
                life,
            )
        except StreamNotFound:
            return False
        return bool(record.forks)

    async def _dead(self, record: StreamRecord) -> list[str]:
        """Return the names of forks that were never made, or are gone: whoever should have said so died at it."""
        return [name for name in record.forks if not await self._lives(record.tenant, name)]

    async def _lives(self, tenant: str, name: str) -> bool:
        life, _, session = name.partition(" ")
        found = await self._directory.find(Place(tenant, session), fresh=True)
        return found is not None and isinstance(found[0], StreamRecord) and str(found[0].life) == life

    async def _mark(self, record: StreamRecord) -> None:
        """Store that it was deleted: who had not heard loses the guard of the next append."""
        for _ in range(_TRIES):
            below = await self._ledger.below(record)
            draft = entries.draft(
                record, Standing(below, record.beginning), Asked(None), entries.SERVICE, entries.DELETED
            )
            try:
                await self._broker.log.publish(record.stretch, draft, guard=entries.guard(Standing(below, ZERO)))
                return
            except Conflict:
                continue

    async def _erase(self, record: StreamRecord) -> None:
        """Remove what deleted streams held: this one, and its sources where it was the last that kept them."""
        waiting = [record]
        while waiting:
            one = waiting.pop()
            await self._wipe(one)
            sources = {Place(s.tenant, s.session) for s in one.segments} - {one.place}
            if one.source is not None:
                sources.add(Place(one.tenant, one.source))
            for source in sources:
                free = await self.release(source, one)
                if free is not None:
                    waiting.append(free)

    async def _wipe(self, record: StreamRecord) -> None:
        """Remove what a deleted stream holds, then its record; somebody else may be at it, or through with it."""
        log, place, to = self._broker.log, record.place, record.stretch
        last, blobs = await log.head(to), await self._broker.blobs(place)
        found = await self._directory.find(place, fresh=True)
        if found is None or not isinstance(found[0], StreamRecord):
            return
        now, revision = found[0], found[1]
        if now.life != record.life or now.state != "deleted" or now.forks:
            return
        # What was there before this look is of this life, or of one before it.
        if last:
            await log.purge(to, upto=last)
        await self._broker.delete_blobs(place, blobs)
        try:
            await self._directory.remove(place, revision=revision)
        except Conflict:
            return
        self._ledger.forget(place)
        # A writer that had not heard of it yet may have stored something meanwhile; a next life may have begun, too.
        last = await log.head(to)
        again = await self._directory.find(place, fresh=True)
        if last:
            await log.purge(to, upto=last if again is None else min(last, again[0].segments[-1].after))
