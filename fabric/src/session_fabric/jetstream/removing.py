"""Removing what is stored of a session, wherever it is: also where it was before it moved, and, while it is being
moved, from the copy, of which whoever makes it is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from session_fabric.jetstream.api import Api
from session_fabric.jetstream.blobs import Blobs
from session_fabric.jetstream.contents import erase_message, stored_message
from session_fabric.jetstream.topology import Topology, here
from session_fabric.ports import Stretch, Wanted
from session_fabric.rules.layout import Lodged
from session_fabric.words.subjects import plain


class Removals:
    def __init__(self, api: Api, topology: Topology, blobs: Blobs) -> None:
        self._api = api
        self._topology = topology
        self._blobs = blobs

    async def purge(self, to: Stretch, *, wanted: Wanted | None = None, upto: int | None = None) -> int:
        """See `ports.Log.purge`."""
        return await self._wherever(to, lambda at: self._purge(at, to, wanted, upto))

    async def erase(self, to: Stretch, sequences: Sequence[int]) -> int:
        """See `ports.Log.erase`."""
        return await self._wherever(to, lambda at: self._erase(at, to, sequences))

    async def _wherever(self, to: Stretch, remove: Callable[[Lodged], Awaitable[int]]) -> int:
        """Remove where a session is kept; again, where it was on its way: a copy made meanwhile may have it yet."""
        at = await self._topology.to_read(to.place)
        while True:
            removed = await remove(at)
            now = await self._topology.to_read(to.place)
            if (now.stream, now.leaving) == (at.stream, at.leaving):
                return removed
            at = now

    async def _purge(self, at: Lodged, to: Stretch, wanted: Wanted | None, upto: int | None) -> int:
        removed = 0
        for stream in reversed(at.streams):  # also what is left of it where it was
            place = here(at._replace(stream=stream, own=self._topology.own(stream)), to).place
            body: dict[str, Any] = {"filter": place.stored_filter(*(wanted[:2] if wanted else (None, None)))}
            if upto is not None:
                body["seq"] = upto + 1
            answer = await self._api.call(f"STREAM.PURGE.{stream}", body)
            removed = int(answer.get("purged", 0))
        if at.leaving is not None:
            await self._topology.note_purge({**body, "filter": plain(body["filter"])})
        return removed

    async def _erase(self, at: Lodged, to: Stretch, sequences: Sequence[int]) -> int:
        erased = 0
        for stream in reversed(at.streams):  # also what is left of it where it was
            erased = max(erased, await self._erase_in(stream, to, sequences))
        if at.leaving is not None:
            await self._topology.note_purge({"filter": to.place.stored_filter(), "erase": list(sequences)})
        return erased

    async def _erase_in(self, stream: str, to: Stretch, sequences: Sequence[int]) -> int:
        erased = 0
        for sequence in sequences:
            record = await stored_message(self._api, stream, {"seq": sequence}, to.segment)
            if record is None or (record.parts.tenant, record.parts.session) != to.place:
                continue
            if record.blob is not None:
                await self._blobs.erase(to.place, record.blob.name)
            erased += await erase_message(self._api, stream, sequence)
        return erased
