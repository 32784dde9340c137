"""The layout as it is written down: read, changed, and kept for one mover alone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.jetstream.streams import keeps_sessions
from session_fabric.jetstream.topology import LAYOUT, MOVER, all_infos, made_together, parsed
from session_fabric.ports import Bucket
from session_fabric.rules.layout import Layout, even
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable, Conflict, MoveUnderWay
from session_fabric.words.logs import log
from session_fabric.words.names import new_id

_HELD_S: Final = 15
_RENEWED_S: Final = 3.0
_TRIES: Final = 20


class Layouts:
    """Where sessions are kept, as all who publish and read find it."""

    def __init__(self, api: Api, bucket: Bucket) -> None:
        self._api = api
        self._bucket = bucket

    async def read(self) -> tuple[Layout, int]:
        """Return where sessions are kept, and the revision; raises `BrokerIncompatible`."""
        try:
            entry = await self._bucket.get(LAYOUT)
        except ApiError as error:
            if error.number not in NOT_FOUND:
                raise
            entry = None  # made by an earlier version, or not at all
        if entry is not None:
            layout = parsed(entry.value)
            if layout is None:
                raise BrokerIncompatible(
                    "Where sessions are kept is written down in a way that this version cannot read.",
                    hint="Use the version that wrote it, or a later one.",
                )
            return layout, entry.revision
        ours = [info for info in await all_infos(self._api) if keeps_sessions(info["config"])]
        count = made_together(ours)
        if count is None:
            raise BrokerIncompatible("The broker has no session streams.", hint="Run `fabricctl stream provision`.")
        return even(count), 0

    async def change(self, edit: Callable[[Layout], Layout]) -> Layout:
        for _ in range(_TRIES):
            layout, revision = await self.read()
            new = edit(layout)
            if new == layout and revision:
                return layout
            try:
                await self._bucket.swap(LAYOUT, new.model_dump_json().encode(), revision=revision)
            except Conflict:
                continue
            return new
        raise Conflict("Where sessions are kept changed again and again meanwhile.", hint="Try again.", revision=None)

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None, None]:
        """Keep others from changing the layout. Raises `MoveUnderWay` while somebody does, and out of the block where
        this process was not heard of for so long that somebody else does now."""
        who = f"{socket.gethostname()}:{os.getpid()} {new_id()}"
        try:
            revision = await self._bucket.swap(MOVER, who.encode(), revision=0, ttl_s=_HELD_S)
        except Conflict as conflict:
            entry = await self._bucket.get(MOVER)
            other = (entry.value or b"").decode("utf-8", "replace").split(" ")[0] if entry else "somebody"
            raise MoveUnderWay(
                f"{other} is changing where sessions are kept.",
                hint=f"Run this again when that is done; if it has died, in {_HELD_S} s.",
            ) from conflict
        owner = asyncio.current_task()
        assert owner is not None
        renewing = asyncio.get_running_loop().create_task(self._renew(who, revision, owner))
        try:
            yield
        except asyncio.CancelledError:
            if not renewing.done():
                raise
            owner.uncancel()
            raise MoveUnderWay(
                f"The broker has not heard of this process for {_HELD_S} s, and somebody else changes where sessions "
                "are kept now.",
                hint="Run this again when that is done.",
            ) from None
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with suppress(Conflict, BrokerUnavailable):
                await self._let_go(who)

    async def _let_go(self, who: str) -> None:
        """Take the mark back that this process holds, and nobody else's."""
        entry = await self._bucket.get(MOVER)
        if entry is not None and entry.value == who.encode():
            await self._bucket.delete(MOVER, revision=entry.revision)

    async def _renew(self, who: str, revision: int, owner: asyncio.Task[Any]) -> None:
        while True:
            await asyncio.sleep(_RENEWED_S)
            try:
                revision = await self._bucket.swap(MOVER, who.encode(), revision=revision, ttl_s=_HELD_S)
            except Conflict:
                log.error("mover_superseded")
                owner.cancel()
                return
            except BrokerUnavailable:
                continue

    async def is_own(self, stream: str) -> bool:
        """Say whether a stream is a tenant's own."""
        return own((await self.read())[0], stream)


def own(layout: Layout, stream: str) -> bool:
    """Say whether a stream of a layout is a tenant's own."""
    lodging = layout.named(stream)
    return lodging is not None and lodging.tenant is not None
