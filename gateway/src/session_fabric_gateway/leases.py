"""Whether gateways live: each renews one lease, and takes over what one that is gone has left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from session_fabric import Fabric, FabricError
from session_fabric.ports import Entry
from session_fabric.words.errors import Unavailable

log = structlog.get_logger()

BUCKET: Final = "sf-leases"
_PREFIX: Final = "gateway"
TTL_S: Final = 2
_RENEW_S: Final = 0.6
# All gateways' leases end when the broker elects a leader: a lease that has ended is believed to only by one whose
# own was renewed without a break for this long.
_SURE_S: Final = 3.0
# What the watch may have missed is found this late.
_LOOK_S: Final = 30.0

Clean = Callable[[frozenset[str]], Awaitable[None]]
Lapsed = Callable[[], Awaitable[None]]


class Leases:
    """Holds this gateway's lease; `run` is its life."""

    def __init__(self, fabric: Fabric, holder: str) -> None:
        self._broker = fabric.broker
        self._bucket = fabric.broker.bucket(BUCKET)
        self.holder = holder
        self._renewed = 0.0
        self._unbroken_since = 0.0
        self._suspected = True  # at the start: whatever died before us
        self._looked = 0.0

    async def alive(self) -> frozenset[str]:
        """Return the holders whose leases stand."""
        entries = await self._bucket.entries(_PREFIX)
        return frozenset(entry.key.rpartition(".")[2] for entry in entries) | {self.holder}

    async def run(self, clean: Clean, lapsed: Lapsed) -> None:
        """Renew, and look for gateways that are gone, until cancelled.

        `clean` removes what holders other than the living ones have left; `lapsed` is called when others may have
        taken us for dead.
        """
        watching = await self._bucket.watch(_PREFIX, self._changed)
        try:
            while True:
                begun = time.monotonic()
                try:
                    await self._step(clean, lapsed)
                except Unavailable:
                    log.warning("lease_not_renewed")
                except FabricError as error:
                    log.error("lease_refused", code=error.code, detail=error.message)
                await asyncio.sleep(max(0.05, _RENEW_S - (time.monotonic() - begun)))
        finally:
            if self._broker.connected:
                await watching.close()

    async def _step(self, clean: Clean, lapsed: Lapsed) -> None:
        await self._bucket.put(f"{_PREFIX}.{self.holder}", b"{}", ttl_s=TTL_S)
        now = time.monotonic()
        if now - self._renewed > TTL_S:
            self._unbroken_since = now
            if self._renewed:
                await lapsed()
        self._renewed = now
        if now - self._unbroken_since < _SURE_S or not (self._suspected or now - self._looked >= _LOOK_S):
            return
        self._suspected = False
        self._looked = now
        try:
            await clean(await self.alive())
        except Unavailable:
            self._suspected = True

    def _changed(self, entry: Entry) -> None:
        if entry.value is None and not entry.key.endswith(self.holder):
            self._suspected = True
