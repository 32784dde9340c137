"""Moving sessions between streams while they are in use, by the phases of `rules.layout`.

The new stream copies its part of the old one as a mirror, which keeps sequences; when it has all that the old one
took, the mirror is made a stream of its own (nats-server 2.12 lets that be done by an update). Interrupted anywhere,
`carry_on` goes on from the phase that was written down.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

import orjson

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.jetstream.contents import erase_message
from session_fabric.jetstream.publishing import publish
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.streams import DUPLICATE_WINDOW_S, EPOCH, LINE, Config, log_stream
from session_fabric.jetstream.topology import (
    LAYOUT,
    MOVER,
    PURGES,
    all_infos,
    found,
    made_together,
    now_ms,
    parsed,
)
from session_fabric.ports import Bucket
from session_fabric.rules.layout import (
    MARGIN_S,
    MOVING_LEASE_S,
    Layout,
    Lodging,
    Move,
    begun,
    even,
    forgotten,
    given_up,
    in_phase,
    placed,
    settled,
)
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable, Conflict, MoveUnderWay
from session_fabric.words.logs import log
from session_fabric.words.subjects import (
    Place,
    copying,
    cut_subject,
    of_shard,
    place_of_key,
    plain,
    republish,
    respelled,
    shard,
    subjects_of_shards,
)

_HELD_S: Final = 15
_RENEWED_S: Final = 3.0
_LOOK_S: Final = 0.1
# A copy that gets no further for this long has something against it.
_STUCK_S: Final = 60.0
_TRIES: Final = 20
_KEPT_MS: Final = (DUPLICATE_WINDOW_S + 60) * 1000


class Settings(NamedTuple):
    """What an operator chooses of a new stream; None, empty: as the stream that it is divided off from."""

    replicas: int | None = None
    max_bytes: int | None = None
    placement_tags: tuple[str, ...] = ()
    cluster: str | None = None

    def of(self, base: Mapping[str, Any]) -> Config:
        config: Config = {"num_replicas": self.replicas or base.get("num_replicas", 1)}
        if self.placement_tags or self.cluster:
            config["placement"] = {
                **({"cluster": self.cluster} if self.cluster else {}),
                **({"tags": list(self.placement_tags)} if self.placement_tags else {}),
            }
        elif base.get("placement"):
            config["placement"] = base["placement"]
        if self.max_bytes is not None:
            # What is full refuses: an event that was confirmed is never dropped to make room.
            config |= {"max_bytes": self.max_bytes, "discard": "new"}
        elif base.get("max_bytes", -1) > 0:
            config |= {"max_bytes": base["max_bytes"], "discard": base.get("discard", "old")}
        return config


AS_BEFORE: Final = Settings()
Say = Callable[[str], None]


class Mover:
    """Changes the layout; one at a time, each step written down before the next."""

    def __init__(self, api: Api, requests: Requests, bucket: Bucket, records: Sequence[Bucket], say: Say) -> None:
        self._api = api
        self._requests = requests
        self._bucket = bucket
        self._records = records
        self._say = say

    # --- the layout ---------------------------------------------------------------------------------

    async def layout(self) -> tuple[Layout, int]:
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
        ours = [
            i for i in await all_infos(self._api) if (i["config"].get("metadata") or {}).get("session-fabric") == "log"
        ]
        count = made_together(ours)
        if count is None:
            raise BrokerIncompatible("The broker has no session streams.", hint="Run `fabricctl stream provision`.")
        return even(count), 0

    async def _change(self, edit: Callable[[Layout], Layout]) -> Layout:
        for _ in range(_TRIES):
            layout, revision = await self.layout()
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
        """Keep others from changing the layout. Raises `MoveUnderWay` while somebody does."""
        who = f"{socket.gethostname()}:{os.getpid()}"
        try:
            revision = await self._bucket.swap(MOVER, who.encode(), revision=0, ttl_s=_HELD_S)
        except Conflict as conflict:
            entry = await self._bucket.get(MOVER)
            other = (entry.value or b"").decode("utf-8", "replace") if entry else "somebody"
            raise MoveUnderWay(
                f"{other} is changing where sessions are kept.",
                hint=f"Run this again when that is done; if it has died, in {_HELD_S} s.",
            ) from conflict
        renewing = asyncio.get_running_loop().create_task(self._renew(who, revision, asyncio.current_task()))
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                revision = await renewing
            with suppress(Conflict, BrokerUnavailable):
                await self._bucket.delete(MOVER)

    async def _renew(self, who: str, revision: int, owner: asyncio.Task[Any] | None) -> int:
        while True:
            await asyncio.sleep(_RENEWED_S)
            try:
                revision = await self._bucket.swap(MOVER, who.encode(), revision=revision, ttl_s=_HELD_S)
            except Conflict:
                log.error("mover_superseded")
                if owner is not None:
                    owner.cancel()
                return revision
            except BrokerUnavailable:
                continue

    # --- a move -------------------------------------------------------------------------------------

    async def move(self, plan: Callable[[Layout], Sequence[Move]], settings: Settings = AS_BEFORE) -> Layout:
        """Plan moves and carry them out; held `alone`. Returns the layout as it is then."""
        moves: list[Move] = []

        def begin(layout: Layout) -> Layout:
            layout = forgotten(layout, now_ms(), _KEPT_MS)
            moves[:] = plan(layout)
            return begun(layout, moves) if moves else layout

        layout = await self._change(begin)
        if not moves:
            return layout
        return await self.carry_on(settings)

    async def carry_on(self, settings: Settings = AS_BEFORE) -> Layout:
        """Bring to its end what is under way; held `alone`."""
        layout, _ = await self.layout()
        under_way = [m for m in layout.moves if m.phase in ("copying", "cutting")]
        if under_way:
            try:
                await self._place(layout, under_way, settings)
            except (Exception, asyncio.CancelledError):
                await asyncio.shield(self._give_up(under_way))
                raise
        layout, _ = await self.layout()
        if any(m.phase == "placed" for m in layout.moves):
            await asyncio.shield(self._take_over(layout))
        return await self.tidy()

    async def _place(self, layout: Layout, moves: Sequence[Move], settings: Settings) -> None:
        # From when on everybody knows that something moves, or asks again before anything else. A mirror answers Direct
        # Gets in its source's name (nats-server has it so), and has a part of that alone: readers have to know.
        await asyncio.sleep(layout.lease_s + MARGIN_S)
        for target in dict.fromkeys(move.target for move in moves):
            await self._make(layout, [m for m in moves if m.target == target], settings)
        full = [m for m in moves if not m.empty]
        for move in full:
            await self._copied(move, await self._mark(move))
        self._say("writes of what moves wait for a moment")
        await self._change(lambda now: in_phase(now, "copying", "cutting"))
        # From when on nobody writes, or believes what he wrote, without asking again.
        await asyncio.sleep(MOVING_LEASE_S + MARGIN_S)
        await self._still_empty(moves)
        cuts = {}
        for move in full:
            cuts[move.target] = await self._mark(move)
            await self._copied(move, cuts[move.target])
        await self._remove_too(full)
        for move in moves:
            await self._subscribe(move.model_copy(update={"cut": cuts.get(move.target, 0)}))

        def place(now: Layout) -> Layout:
            if {m.target for m in now.moves if m.phase == "cutting"} != {m.target for m in moves}:
                raise MoveUnderWay(
                    "The move stood still for too long, and writers went on where they were.",
                    hint="Run `fabricctl stream repair`.",
                )
            return placed(now, cuts, now_ms())

        await self._change(place)

    async def _make(self, layout: Layout, moves: Sequence[Move], settings: Settings) -> None:
        """Make a new stream: a copy of a part of another, or one of its own where there is nothing to copy."""
        target, tenant = moves[0].target, moves[0].tenant
        full = next((m for m in moves if not m.empty), None)
        base = await self._api.call(f"STREAM.INFO.{(full or moves[0]).source}")
        shards = tuple(sorted({s for m in moves for s in m.shards}))
        count = int(base["config"]["metadata"]["session-fabric-streams"])
        config = log_stream(Lodging(stream=target, shards=shards, tenant=tenant), count, 1)
        config |= settings.of(base["config"])
        if full is not None:
            origin = found(base)
            source_own, target_own = _own(layout, full.source), tenant is not None
            rules = [copying(s, tenant, source_own=source_own, target_own=target_own) for s in full.shards]
            del config["subjects"], config["republish"], config["allow_atomic"]  # a mirror has none of these
            config["mirror"] = {"name": full.source, "subject_transforms": rules}
            config["metadata"] |= {LINE: origin.line, EPOCH: origin.epoch}
        try:
            await self._api.call(f"STREAM.CREATE.{target}", config, timeout_s=15.0)
        except ApiError as error:
            if error.number != _THERE:  # made by whoever began this move
                raise BrokerIncompatible(
                    f"The broker cannot make the stream {target}: {error.description}.",
                    hint="Are there so many nodes, with these tags, and room? `nats server report jetstream` says.",
                    stream=target,
                ) from error
        self._say(f"{target} is made" + (f", and copies from {full.source}" if full else ""))

    async def _mark(self, move: Move) -> int:
        """Store a mark behind all that is to be copied; return its sequence."""
        own = await self._is_own(move.source)
        subject = cut_subject(move.shards[0], move.tenant, own=own)
        ack = await publish(self._requests, subject, b"{}", {"Nats-TTL": "3600s"}, timeout_s=10.0)
        return ack.sequence

    async def _is_own(self, stream: str) -> bool:
        return _own((await self.layout())[0], stream)

    async def _copied(self, move: Move, upto: int) -> None:
        """Wait until the copy has come as far as a sequence of the source."""
        loop = asyncio.get_running_loop()
        last, since, said = -1, loop.time(), loop.time()
        while True:
            info = await self._api.call(f"STREAM.INFO.{move.target}")
            if int(info["state"]["last_seq"]) >= upto:
                return
            mirror = info.get("mirror") or {}
            if int(info["state"]["last_seq"]) != last:
                last, since = int(info["state"]["last_seq"]), loop.time()
            if loop.time() - since > _STUCK_S:
                why = (mirror.get("error") or {}).get("description", "the broker does not say why")
                raise BrokerIncompatible(
                    f"{move.target} gets no further in copying from {move.source}: {why}.",
                    hint="Look at the broker's log; then run this again.",
                    stream=move.target,
                )
            if loop.time() - said > _RENEWED_S:
                said = loop.time()
                self._say(
                    f"{move.target} has copied {info['state']['messages']} events, {mirror.get('lag', '?')} to go"
                )
            await asyncio.sleep(_LOOK_S)

    async def places(self, tenant: str | None = None) -> set[Place]:
        """Return the places of all that is kept in streams; of a tenant, or of all."""
        prefix = "" if tenant is None else Place(tenant, "").key().rstrip(".")
        return {place_of_key(entry.key) for bucket in self._records for entry in await bucket.entries(prefix)}

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

    async def _remove_too(self, moves: Sequence[Move]) -> None:
        """Remove from the copies what was removed at the source while they were made."""
        for entry in await self._bucket.entries(PURGES):
            body = orjson.loads(entry.value or b"{}")
            for move in moves:
                for sequence in body.get("erase", ()):  # at these the target has what the source had, or nothing
                    await erase_message(self._api, move.target, sequence)
                if "erase" in body:
                    continue
                spelled = {**body, "filter": respelled(body["filter"], own=move.tenant is not None)}
                await self._api.call(f"STREAM.PURGE.{move.target}", spelled)
            await self._bucket.delete(entry.key)

    # --- durable subscriptions ----------------------------------------------------------------------

    async def consumers(self, stream: str) -> list[dict[str, Any]]:
        """Return the durable subscriptions on a stream, as JetStream describes them."""
        out: list[dict[str, Any]] = []
        seen = 0
        while True:
            page = await self._api.call(f"CONSUMER.LIST.{stream}", {"offset": seen})
            consumers = page.get("consumers") or []
            seen += len(consumers)
            out += [c for c in consumers if (c["config"].get("metadata") or {}).get("session-fabric") == "durable"]
            if not consumers or seen >= page.get("total", 0):
                return out

    async def _subscribe(self, move: Move) -> None:
        """Have each durable subscription that concerns what moves at the target too, from where the copy ends."""
        for info in await self.consumers(move.source):
            config = dict(info["config"])
            if not concerns(config["metadata"], move):
                continue
            filters = config.pop("filter_subjects", None) or [config.pop("filter_subject", "")]
            own = move.tenant is not None
            config["filter_subjects"] = [respelled(plain(name), own=own) for name in filters]
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": move.cut + 1, "num_replicas": 0}
            config.pop("opt_start_time", None)
            body = {"stream_name": move.target, "config": config, "action": "create"}
            try:
                await self._api.call(f"CONSUMER.CREATE.{move.target}.{config['name']}", body, timeout_s=10.0)
            except ApiError as error:
                if error.number not in (_CONSUMER_THERE, _CONSUMER_OTHER):
                    raise

    # --- taking over --------------------------------------------------------------------------------

    async def _take_over(self, layout: Layout) -> None:
        """Give the subjects of what moved to the streams that have it now."""
        moves = [m for m in layout.moves if m.phase == "placed"]
        for source in dict.fromkeys(m.source for m in moves if m.tenant is None or _own(layout, m.source)):
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
        await self._change(lambda now: in_phase(now, "placed", "left"))
        for move in moves:
            await self._subscribe(move)  # those that were made in the last moment
        self._say(f"{', '.join(dict.fromkeys(m.target for m in moves))}: has taken over")

    async def _update(self, stream: str, change: Config) -> None:
        info = await self._api.call(f"STREAM.INFO.{stream}")
        config = {key: value for key, value in {**info["config"], **change}.items() if value is not None}
        if config != info["config"]:
            await self._api.call(f"STREAM.UPDATE.{stream}", config, timeout_s=15.0)

    async def _give_up(self, moves: Sequence[Move]) -> None:
        """Leave everything where it is, and remove what was made for it; nothing was written there."""
        before, _ = await self.layout()
        if not any(m.phase in ("copying", "cutting") for m in before.moves):
            return
        after = await self._change(given_up)
        for target in {m.target for m in moves} - set(after.streams):
            with suppress(ApiError, BrokerUnavailable):
                await self._api.call(f"STREAM.DELETE.{target}", timeout_s=10.0)
        for entry in await self._bucket.entries(PURGES):
            await self._bucket.delete(entry.key)
        self._say("given up: everything is where it was")

    # --- afterwards ---------------------------------------------------------------------------------

    async def tidy(self) -> Layout:
        """Remove at the source what has moved, as far as durable subscriptions have read it; held `alone`."""
        layout, _ = await self.layout()
        done: list[Move] = []
        for move in layout.moves:
            if move.phase != "left" or await self.waiting(move):
                continue
            if not move.empty:
                own = _own(layout, move.source)
                for number in move.shards:
                    await self._api.call(
                        f"STREAM.PURGE.{move.source}",
                        {"filter": of_shard(number, move.tenant, own=own)},
                        timeout_s=30.0,
                    )
            done.append(move)
        if done:
            layout = await self._change(lambda now: settled(now, done))
        return layout

    async def waiting(self, move: Move) -> list[str]:
        """Return the durable subscriptions that have not read all that a source still has of what moved."""
        if move.empty:
            return []
        out = []
        for info in await self.consumers(move.source):
            through = int(info["ack_floor"]["stream_seq"]) >= move.cut
            idle = not info["num_pending"] and not info["num_ack_pending"]
            if concerns(info["config"]["metadata"], move) and not through and not idle:
                out.append(str(info["name"]))
        return out


_THERE: Final = 10058
_CONSUMER_THERE: Final = 10148
_CONSUMER_OTHER: Final = 10105


def concerns(metadata: Mapping[str, str], move: Move) -> bool:
    """Say whether a durable subscription has anything to do with what moves."""
    tenant, session = metadata.get("tenant", ""), metadata.get("session", "")
    if tenant and move.tenant not in (None, tenant):
        return False
    return not session or shard(tenant, session) in move.shards


def _own(layout: Layout, stream: str) -> bool:
    lodging = layout.named(stream)
    return lodging is not None and lodging.tenant is not None
