"""Moves whose mover died as the new stream took over: whoever watches over sessions has it take over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from session_fabric.jetstream.moves.mover import Mover
from session_fabric.jetstream.topology import MOVER, Topology
from session_fabric.ports import Bucket
from session_fabric.words.errors import FabricError, MoveUnderWay
from session_fabric.words.logs import log

# What no watch told of is found this late; and how often it is looked whether a mover is still there.
_LOOK_S: Final = 30.0
_AGAIN_S: Final = 1.0


class Finishing:
    """One process's watch over moves; `run` is its whole life. Several may watch: one at a time does something."""

    def __init__(self, topology: Topology, bucket: Bucket, mover: Mover) -> None:
        self._topology = topology
        self._bucket = bucket
        self._mover = mover
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled; survives a lost broker."""
        end = self._topology.on_change(self._wake.set)
        try:
            while True:
                self._wake.clear()
                wait_s = _AGAIN_S if await self._look() else _LOOK_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
        finally:
            end()

    async def _look(self) -> bool:
        """Finish what stands still; say whether a stream still has to take over."""
        waiting: list[str] = []
        try:
            await self._topology.known()
            waiting = [m.source for m in self._topology.layout.moves if m.phase == "placed"]
            # While its mover lives it is about to do it.
            if waiting and await self._bucket.get(MOVER) is None:
                log.warning("move_stands_still", streams=waiting)
                async with self._mover.layouts.alone():
                    await self._mover.finish()
        except MoveUnderWay:  # another process was first
            return True
        except FabricError as error:
            if not waiting:
                log.info("moves_not_looked_at", code=error.code)
                return False
            # Without the rights to change streams, say: `stream check` names it, and `stream repair` does it.
            log.warning("move_not_finished", code=error.code, detail=error.message)
            return False
        return bool(waiting)
