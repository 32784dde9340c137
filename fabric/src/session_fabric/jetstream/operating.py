"""What an operator does with the streams: make them, look them over, mend them, divide them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from session_fabric.jetstream.api import Api
from session_fabric.jetstream.broker import DEFAULT_STREAMS, check_streams
from session_fabric.jetstream.buckets import JetStreamBucket
from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.dial import Dial, shown
from session_fabric.jetstream.entrance import check_jetstream
from session_fabric.jetstream.moves.mover import Mover
from session_fabric.jetstream.moves.settings import AS_BEFORE, Say, Settings
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.survey import Finding, Survey
from session_fabric.jetstream.topology import BUCKET, RECORDS, Topology, all_infos
from session_fabric.rules.layout import Layout, Move, grow, move_shards, own_streams
from session_fabric.words.errors import BrokerIncompatible, InvalidRequest
from session_fabric.words.names import check_tenant, new_id


class Operator:
    """One connection that changes the layout. Made by `connected`, also to a broker that is not as it should be."""

    def __init__(self, dial: Dial, say: Say) -> None:
        self._requests = Requests(dial.connection)
        self._api = Api(self._requests)
        self._dial = dial
        self._say = say
        layout, *records = (
            JetStreamBucket(name, dial.connection, self._requests, self._api) for name in (BUCKET, *RECORDS)
        )
        self._topology = Topology(self._api, layout)
        self._mover = Mover(self._api, self._requests, layout, records, say)
        self._survey = Survey(self._api, self._mover, layout)

    @classmethod
    @asynccontextmanager
    async def connected(
        cls,
        url: str,
        *,
        credentials: Credentials | None = None,
        say: Say = lambda _: None,
        timeout_s: float = 10.0,
    ) -> AsyncGenerator[Operator]:
        """Connect; `say` hears of each step. Raises `BrokerUnavailable`, `BrokerTooOld`, `BrokerRefused`."""
        dial = Dial(url, credentials, "session-fabric-operator", new_id())
        operator = cls(dial, say)
        async with dial.connecting(timeout_s, operator._requests):
            await operator._requests.open()
            await check_jetstream(operator._requests, dial.connection, shown(url))
        try:
            yield operator
        finally:
            await dial.close()

    async def layout(self) -> Layout:
        """Return where sessions are kept."""
        return (await self._mover.layouts.read())[0]

    async def streams(self) -> int:
        """Return how many streams all tenants share; 0 where nothing was made."""
        try:
            return len((await self.layout()).of(None))
        except BrokerIncompatible:
            return 0

    async def used(self, tenant: str) -> set[int]:
        """Return the buckets in which a tenant has sessions."""
        return await self._mover.used(tenant)

    async def infos(self) -> dict[str, dict[str, Any]]:
        """Return every stream's info, by name, as JetStream gives it."""
        return {info["config"]["name"]: info for info in await all_infos(self._api)}

    async def consumers(self, stream: str) -> list[dict[str, Any]]:
        """Return the durable subscriptions on a stream, as JetStream describes them."""
        return await self._mover.durables.of(stream)

    # --- making ---------------------------------------------------------------------------------------

    async def provision(
        self, *, streams: int | None = None, replicas: int | None = None, settings: Settings = AS_BEFORE
    ) -> Layout:
        """Make what is missing, set what an earlier version has set otherwise, divide streams until there are as many.

        Raises `InvalidRequest` where there are more than `streams`, `MoveUnderWay` while somebody else does this,
        `BrokerIncompatible` where something stays that the fabric cannot work with.
        """
        check_streams(streams)
        await self._survey.buckets(replicas)
        async with self._mover.layouts.alone():
            await self._topology.make(streams=streams or DEFAULT_STREAMS, replicas=replicas)
            for finding in await self._survey.findings():
                if finding.mend is not None and finding.safe:
                    self._say(finding.what)
                    await finding.mend()
                elif finding.about == "settings":
                    how = finding.fix if finding.mend is None else "`fabricctl stream repair` does it, and asks before."
                    raise BrokerIncompatible(f"{finding.where}: {finding.what}", hint=how)
            layout = await self.layout()
            if streams is None or streams == len(layout.of(None)):
                return layout
            return await self._mover.move(lambda now: grow(now, streams), settings)

    # --- dividing -------------------------------------------------------------------------------------

    async def move_bucket(self, shards: Sequence[int], to: str | None, settings: Settings = AS_BEFORE) -> Layout:
        """Move shards to a stream that is made for them. Raises `InvalidRequest`, `MoveUnderWay`."""
        await self.layout()
        async with self._mover.layouts.alone():
            return await self._mover.move(lambda layout: [move_shards(layout, shards, to)], settings)

    async def tenant(self, tenant: str, streams: int | None, settings: Settings = AS_BEFORE) -> Layout:
        """Give a tenant streams of its own, or divide those that it has. Raises `InvalidRequest`, `MoveUnderWay`."""
        check_tenant(tenant)
        layout = await self.layout()
        async with self._mover.layouts.alone():
            used = await self._mover.used(tenant)

            def plan(now: Layout) -> list[Move]:
                if not now.of(tenant):
                    return own_streams(now, tenant, used, streams)
                return [] if streams is None else grow(now, streams, tenant)

            there = {lodging.stream for lodging in layout.of(tenant)}
            after = await self._mover.move(plan, settings)
            if streams is not None and len(after.of(tenant)) < streams:
                after = await self._mover.move(plan, settings)  # what was in one stream has come to one: divide it
            for stream in there:
                await self._survey.set(stream, settings)
            return after

    # --- looking over ---------------------------------------------------------------------------------

    async def check(self) -> list[Finding]:
        """Return each difference between what is at the broker and what is needed."""
        return await self._survey.findings()

    async def repair(self, findings: Sequence[Finding]) -> None:
        """Mend these, as far as they can be. Raises `MoveUnderWay`."""
        async with self._mover.layouts.alone():
            for finding in findings:
                if finding.mend is not None:
                    self._say(finding.what)
                    await finding.mend()


def shards_of(text: str) -> list[int]:
    """Read buckets as they are written: `7`, `40-47`, `1,3,5-9`. Raises `InvalidRequest`."""
    out: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or not (last.isdecimal() or not dash) or len(first) > 3 or len(last) > 3:
            raise InvalidRequest(f"{text!r:.60} does not say which buckets.", hint="Write 7, 40-47 or 1,3,5-9.")
        out.extend(range(int(first), int(last or first) + 1))
    return out
