"""Moving sessions between streams while they are in use, by the phases of `rules.layout`.

The new stream copies its part of the old one as a mirror, which keeps sequences; when it has all that the old one
took, the mirror is made a stream of its own (nats-server 2.12 lets that be done by an update). Interrupted anywhere,
`carry_on` goes on from the phase that was written down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from session_fabric.jetstream.api import Api, ApiError
from session_fabric.jetstream.moves.copying import Copies
from session_fabric.jetstream.moves.durables import Durables
from session_fabric.jetstream.moves.layouts import Layouts
from session_fabric.jetstream.moves.layouts import own as is_own
from session_fabric.jetstream.moves.settings import AS_BEFORE, Say, Settings
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.streams import DUPLICATE_WINDOW_S, Config
from session_fabric.jetstream.topology import PURGES, now_ms
from session_fabric.ports import Bucket
from session_fabric.rules.layout import (
    MARGIN_S,
    MOVING_LEASE_S,
    Layout,
    Move,
    begun,
    forgotten,
    given_up,
    in_phase,
    placed,
    settled,
)
from session_fabric.words.errors import BrokerUnavailable, Conflict, MoveUnderWay
from session_fabric.words.subjects import Place, of_shard, place_of_key, republish, shard, subjects_of_shards

_KEPT_MS: Final = (DUPLICATE_WINDOW_S + 60) * 1000


class Mover:
    """Changes the layout; one at a time, each step written down before the next."""

    def __init__(self, api: Api, requests: Requests, bucket: Bucket, records: Sequence[Bucket], say: Say) -> None:
        self.layouts = Layouts(api, bucket)
        self.durables = Durables(api)
        self._copies = Copies(api, requests, bucket, self.layouts, say)
        self._api = api
        self._bucket = bucket
        self._records = records
        self._say = say

    async def move(self, plan: Callable[[Layout], Sequence[Move]], settings: Settings = AS_BEFORE) -> Layout:
        """Plan moves and carry them out; held `alone`. Returns the layout as it is then.

        Raises `BrokerIncompatible` where a stream cannot be copied as it is: nothing has begun.
        """
        moves: list[Move] = []

        def begin(layout: Layout) -> Layout:
            layout = forgotten(layout, now_ms(), _KEPT_MS)
            moves[:] = plan(layout)
            return begun(layout, moves) if moves else layout

        await self.finish()
        layout, _ = await self.layouts.read()
        for source in {move.source for move in plan(forgotten(layout, now_ms(), _KEPT_MS)) if not move.empty}:
            await self._copies.check_keeps(source)
        layout = await self.layouts.change(begin)
        if not moves:
            return layout
        return await self.carry_on(settings)

    async def carry_on(self, settings: Settings = AS_BEFORE) -> Layout:
        """Bring to its end what is under way; held `alone`."""
        layout, _ = await self.layouts.read()
        under_way = [m for m in layout.moves if m.phase in ("copying", "cutting")]
        if under_way:
            try:
                await self._place(layout, under_way, settings)
            except (Exception, asyncio.CancelledError):
                await asyncio.shield(self._give_up(under_way))
                raise
        await self.finish()
        return await self.tidy()

    async def finish(self) -> None:
        """Have streams take over what was given to them, whoever did: he may have died at it. Held `alone`.

        Made again it changes nothing. It is the moment in which nobody can write to what moves.
        """
        layout, _ = await self.layouts.read()
        if any(m.phase == "placed" for m in layout.moves):
            await asyncio.shield(self._take_over(layout))

    async def _place(self, layout: Layout, moves: Sequence[Move], settings: Settings) -> None:
        # From when on everybody knows that something moves, or asks again before anything else. A mirror answers Direct
        # Gets in its source's name (nats-server has it so), and has a part of that alone: readers have to know.
        await asyncio.sleep(layout.lease_s + MARGIN_S)
        for target in dict.fromkeys(move.target for move in moves):
            await self._copies.make(layout, [m for m in moves if m.target == target], settings)
        full = [m for m in moves if not m.empty]
        for move in full:
            await self._copies.until(move, await self._copies.mark(move))
        self._say("writes of what moves wait for a moment")
        await self.layouts.change(lambda now: in_phase(now, "copying", "cutting"))
        # From when on nobody writes, or believes what he wrote, without asking again.
        await asyncio.sleep(MOVING_LEASE_S + MARGIN_S)
        await self._still_empty(moves)
        cuts = {}
        for move in full:
            cuts[move.target] = await self._copies.mark(move)
            await self._copies.until(move, cuts[move.target])
        await self._copies.remove_too(full)
        for move in moves:
            await self.durables.follow(move.model_copy(update={"cut": cuts.get(move.target, 0)}))

        def place(now: Layout) -> Layout:
            if {m.target for m in now.moves if m.phase == "cutting"} != {m.target for m in moves}:
                raise MoveUnderWay(
                    "The move stood still for too long, and writers went on where they were.",
                    hint="Run `fabricctl stream repair`.",
                )
            return placed(now, cuts, now_ms())

        await self.layouts.change(place)

    async def places(self, tenant: str | None = None) -> set[Place]:
        """Return the places of all that is kept in streams; of a tenant, or of all."""
        prefix = "" if tenant is None else Place(tenant, "").key().rstrip(".")
        keys = {entry.key for bucket in self._records for entry in await bucket.entries(prefix)}
        return {place_of_key(key) for key in keys if "." in key}  # what has no tenant is none of ours

    async def used(self, tenant: str) -> set[int]:
        """Return the shards in which a tenant has sessions."""
        return {shard(*place) for place in await self.places(tenant)}

    async def _still_empty(self, moves: Sequence[Move]) -> None:
        """Raise `Conflict` where a tenant began a session in a stream that had none of it."""
        for tenant in {m.tenant for m in moves if m.empty and m.tenant is not None}:
            used = await self.used(tenant)
            if any(used & set(m.shards) for m in moves if m.empty and m.tenant == tenant):
                raise Conflict(
                    f"Tenant {tenant!r} began a session in another stream meanwhile.",
                    hint="Run this again: there is one stream more to divide.",
                    revision=None,
                )

    async def _take_over(self, layout: Layout) -> None:
        """Give the subjects of what moved to the streams that have it now."""
        moves = [m for m in layout.moves if m.phase == "placed"]
        for source in dict.fromkeys(m.source for m in moves if m.tenant is None or is_own(layout, m.source)):
            lodging = layout.named(source)
            if lodging is not None:
                await self._update(source, {"subjects": subjects_of_shards(lodging.shards, lodging.tenant)})
        for target in dict.fromkeys(m.target for m in moves):
            lodging = layout.named(target)
            if lodging is not None:
                own = lodging.tenant is not None
                subjects = subjects_of_shards(lodging.shards, lodging.tenant)
                change = {"subjects": subjects, "republish": republish(own=own), "allow_atomic": True, "mirror": None}
                change["mirror_direct"] = False  # else it goes on answering Direct Gets in the source's name
                await self._update(target, change)
        await self.layouts.change(lambda now: in_phase(now, "placed", "left"))
        for move in moves:
            await self.durables.follow(move)  # those that were made in the last moment
        self._say(f"{', '.join(dict.fromkeys(m.target for m in moves))}: has taken over")

    async def _update(self, stream: str, change: Config) -> None:
        info = await self._api.call(f"STREAM.INFO.{stream}")
        config = {key: value for key, value in {**info["config"], **change}.items() if value is not None}
        if config != info["config"]:
            await self._api.call(f"STREAM.UPDATE.{stream}", config, timeout_s=15.0)

    async def _give_up(self, moves: Sequence[Move]) -> None:
        """Leave everything where it is, and remove what was made for it; nothing was written there."""
        before, _ = await self.layouts.read()
        if not any(m.phase in ("copying", "cutting") for m in before.moves):
            return
        after = await self.layouts.change(given_up)
        for target in {m.target for m in moves} - set(after.streams):
            with suppress(ApiError, BrokerUnavailable):
                await self._api.call(f"STREAM.DELETE.{target}", timeout_s=10.0)
        for entry in await self._bucket.entries(PURGES):
            await self._bucket.delete(entry.key)
        self._say("given up: everything is where it was")

    async def tidy(self) -> Layout:
        """Remove at the source what has moved, as far as durable subscriptions have read it; held `alone`."""
        layout, _ = await self.layouts.read()
        done: list[Move] = []
        for move in layout.moves:
            if move.phase != "left" or await self.durables.waiting(move):
                continue
            if not move.empty:
                own = is_own(layout, move.source)
                for number in move.shards:
                    await self._api.call(
                        f"STREAM.PURGE.{move.source}",
                        {"filter": of_shard(number, move.tenant, own=own)},
                        timeout_s=30.0,
                    )
            done.append(move)
        if done:
            layout = await self.layouts.change(lambda now: settled(now, done))
        return layout
