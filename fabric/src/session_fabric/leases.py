"""Whether processes live: each renews one lease, whatever it holds, and answers to its name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, Final

import orjson

from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.ports import Broker, Listening
from session_fabric.rules.leases import LEASE_S, RENEW_S, STORES_WITHIN_S, SURE_S
from session_fabric.rules.versions import FORMAT
from session_fabric.words.errors import BrokerRefused, BrokerUnavailable, FabricError, LeaseLost, Unavailable
from session_fabric.words.logs import log
from session_fabric.words.measures import LAPSES, RENEWALS
from session_fabric.words.names import escape
from session_fabric.words.subjects import call_of
from session_fabric.words.version import VERSION

BUCKET: Final = "sf-leases"
# No tenant's name begins so.
GATEWAYS: Final = "_gw"
_CLOSE_S: Final = 1.0
_LOOK_S: Final = 2.0
# What a process that lives after all is told by whoever has put in order what it held.
BURIED: Final = b"taken for dead"
# What one is asked who wants to know its version, too. The lease itself says nothing: what stands in it is checked.
WHO: Final = b"who"
# What a process is told that is to send its clients elsewhere. Who may ask it is the broker's to say: calls are for
# those with rights there, and for no native agent.
DRAIN: Final = b"drain"
_UNDERSTOOD: Final = b"yes"


def alive_call(holder: str) -> str:
    """Name what a process answers to for as long as it lives."""
    return call_of(holder, "alive")


async def living(broker: Broker) -> frozenset[str]:
    """Return the processes whose leases stand, as far as one may see them."""
    return frozenset(entry.key.rpartition(".")[2] for entry in await broker.bucket(BUCKET).entries())


class Lease:
    """This process's lease, held from the first `hold` on; one for all that it holds.

    A lease that was lost is renewed all the same, as soon as the broker can be reached: the process lives, and what
    it holds from then on is its own. What it held before may be another's; `on_lapse` says when to look.
    """

    def __init__(self, broker: Broker, group: str, metrics: Metrics = NOT_COUNTED) -> None:
        self._metrics = metrics
        self._broker = broker
        self._bucket = broker.bucket(BUCKET)
        self._key = f"{escape(group)}.{broker.holder}"
        self._renewed = 0.0
        self._unbroken_since = 0.0
        self._lapses: list[Callable[[], None]] = []
        self._facts: list[Callable[[], Mapping[str, Any]]] = []
        self._drain: Callable[[], None] | None = None
        self._holding = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._serving: Listening | None = None
        self._unhook: Callable[[], None] | None = None

    @property
    def holder(self) -> str:
        return self._broker.holder

    @property
    def held(self) -> bool:
        """Say whether it was renewed within its time, by our own clock."""
        return time.monotonic() - self._renewed < LEASE_S

    @property
    def sure(self) -> bool:
        """Say whether it was renewed without a break long enough to judge others' leases.

        A connection that was lost is a break too, however short: others may not be back yet.
        """
        now = time.monotonic()
        return self.held and now - self._unbroken_since >= SURE_S

    async def hold(self) -> None:
        """Begin to renew it; the first call returns when it stands. Raises `BrokerUnavailable`."""
        async with self._holding:
            if self._task is not None:
                return
            serving = await self._broker.calls.serve(alive_call(self.holder), self._answer)
            try:
                await self._renew()
            except BaseException:
                await serving.close()
                raise
            self._serving = serving
            self._unhook = self._broker.on_connection(self._connection_changed)
            self._task = asyncio.create_task(self._keep(), name="lease", context=Context())

    async def check(self) -> None:
        """Raise `LeaseLost` when others may have taken this process for dead."""
        if not self.held:
            raise LeaseLost(
                "This process's lease was not renewed in time.",
                hint="What it held may be another's by now: claim it again.",
                holder=self.holder,
            )

    async def check_served(self) -> None:
        """Raise `BrokerUnavailable` where the broker has not stored a lease that is held for longer than an election
        takes, and nobody leads what leases are kept in, or that is not there. One that only has no room left is read
        from."""
        unstored_s = time.monotonic() - self._renewed
        if self._task is None or unstored_s <= STORES_WITHIN_S:
            return
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._bucket.get(self._key)
        except (TimeoutError, Unavailable) as error:
            raise BrokerUnavailable(
                f"The broker is connected, and has stored nothing for {unstored_s:.0f} s.",
                hint="Has its cluster a majority? Two of three nodes are enough; all goes on by itself then.",
            ) from error
        except BrokerRefused as error:
            raise BrokerUnavailable(
                f"The broker is connected, and has stored nothing for {unstored_s:.0f} s: {error.message}",
                hint="`fabricctl doctor` says what it lacks, or may not be done.",
            ) from error

    async def alive(self) -> frozenset[str]:
        """Return the processes whose leases stand."""
        own = {self.holder} if self._task is not None else set()
        return await living(self._broker) | own

    def tell(self, facts: Callable[[], Mapping[str, Any]]) -> Callable[[], None]:
        """Have these told too to whoever asks who we are. The returned call takes it back."""
        self._facts.append(facts)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._facts.remove(facts)

        return end

    def on_drain(self, begin: Callable[[], None]) -> None:
        """Call this when we are told to send clients elsewhere; it begins to, and returns at once."""
        self._drain = begin

    def on_lapse(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` when others may have taken this process for dead, and can be reached again.

        That is when the lease is renewed after it had ended, when the connection is back, and when one who put in
        order what we held says so. The returned call takes it back.
        """
        self._lapses.append(sink)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._lapses.remove(sink)

        return end

    async def _keep(self) -> None:
        due = time.monotonic()
        while True:
            begun = time.monotonic()
            if begun - due >= LEASE_S:
                log.warning("process_held_up", holder=self.holder, for_s=round(begun - due, 1))
            try:
                await self._renew()
            except Unavailable:
                self._metrics.count(RENEWALS, "failed")
                log.warning("lease_not_renewed", holder=self.holder)
            except FabricError as error:
                self._metrics.count(RENEWALS, "failed")
                log.error("lease_refused", code=error.code, detail=error.message)
            wait_s = max(0.05, RENEW_S - (time.monotonic() - begun))
            due = time.monotonic() + wait_s
            await asyncio.sleep(wait_s)

    async def _renew(self) -> None:
        # By the time it was asked for: what stands at the broker has begun later than this.
        begun = time.monotonic()
        await self._bucket.put(self._key, b"{}", ttl_s=LEASE_S)
        broken = begun - self._renewed > LEASE_S
        lapsed = broken and self._renewed > 0
        if broken:
            self._unbroken_since = begun
        self._renewed = begun
        self._metrics.count(RENEWALS, "renewed")
        if lapsed:
            self._metrics.count(LAPSES)
            self._tell_lapse()

    def _tell_lapse(self) -> None:
        for sink in list(self._lapses):
            sink()

    def _connection_changed(self, connected: bool) -> None:
        self._unbroken_since = time.monotonic()
        if connected:
            self._tell_lapse()

    async def _answer(self, data: bytes) -> bytes:
        if data == BURIED:
            log.warning("taken_for_dead", holder=self.holder)
            self._tell_lapse()
        if data == WHO:
            told = {name: value for facts in self._facts for name, value in facts().items()}
            return orjson.dumps({**told, "version": VERSION, "format": FORMAT})
        if data == DRAIN:
            if self._drain is None:
                return b"no"
            self._drain()
        return _UNDERSTOOD

    async def close(self) -> None:
        """Give it up: whoever watches knows at once that this process holds nothing any more."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._unhook is not None:
            self._unhook()
        if self._serving is not None:
            await self._serving.close()
        if self._broker.connected:
            with contextlib.suppress(FabricError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._bucket.delete(self._key)
