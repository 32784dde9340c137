"""What nobody counts as it happens, looked at every so often: the round trip, lag, the lease, the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter as Sums
from typing import Final

from session_fabric.counting import Metrics
from session_fabric.leases import Lease
from session_fabric.measured import MeasuredBroker
from session_fabric.words.errors import FabricError, Unavailable
from session_fabric.words.logs import log
from session_fabric.words.measures import (
    CONSUMERS,
    LEASE_HELD,
    LOOP_LAG,
    PINGS_LOST,
    ROUND_TRIP,
    UNACKED,
    WAITING,
)

LOOK_S: Final = 0.5
PING_S: Final = 5.0
# A question to the leader for each stream of each consumer that is open here.
LAG_S: Final = 15.0
_PING_WITHIN_S: Final = 2.0


class Sampler:
    """One process's looks at itself; `run` is its whole life and wants an owner."""

    def __init__(
        self, broker: MeasuredBroker, lease: Lease, metrics: Metrics, *, ping_s: float = PING_S, lag_s: float = LAG_S
    ) -> None:
        self._broker = broker
        self._lease = lease
        self._metrics = metrics
        self._ping_s = ping_s
        self._lag_s = lag_s

    async def run(self) -> None:
        """Look until cancelled; survives a lost broker."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look(), name="loop lag")
            group.create_task(self._ping(), name="round trip")
            group.create_task(self._lags(), name="lag of consumers")

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while True:
                due = clock() + LOOK_S
                await asyncio.sleep(LOOK_S)
                self._metrics.observe(LOOP_LAG, max(0.0, clock() - due))
                self._metrics.set(LEASE_HELD, 1 if self._lease.held else 0)
        finally:
            self._metrics.set(LEASE_HELD, 0)

    async def _ping(self) -> None:
        while True:
            try:
                self._metrics.observe(ROUND_TRIP, await self._broker.ping(_PING_WITHIN_S))
            except Unavailable:
                self._metrics.count(PINGS_LOST)
            await asyncio.sleep(self._ping_s)

    async def _lags(self) -> None:
        while True:
            await asyncio.sleep(self._lag_s)
            waiting: Sums[str] = Sums()
            unacked: Sums[str] = Sums()
            try:
                for durable in list(self._broker.opened):
                    behind, handed_out = await durable.lag()
                    waiting[durable.consumer] += behind
                    unacked[durable.consumer] += handed_out
            except FabricError as error:  # what was true a while ago stands
                log.info("lag_not_known", code=error.code)
                continue
            for consumer in CONSUMERS:
                self._metrics.set(WAITING, waiting[consumer], consumer)
                self._metrics.set(UNACKED, unacked[consumer], consumer)
