"""What at the broker is not as it should be, and how each of it is mended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.jetstream.moves.mover import Mover
from session_fabric.jetstream.moves.settings import Settings
from session_fabric.jetstream.streams import (
    STREAMS,
    Config,
    blob_stream,
    breaches,
    bucket_stream,
    differences,
    drops,
    is_marked,
    log_stream,
    needs,
    strangers,
)
from session_fabric.jetstream.topology import BUCKET, MOVER, RECORDS, all_infos
from session_fabric.ports import BUCKETS, Bucket
from session_fabric.rules.layout import STREAM_PREFIX, Layout, Lodging, lodged
from session_fabric.words.errors import BrokerIncompatible
from session_fabric.words.subjects import SHARDS, Place, shard

# What an update of a stream may change (nats-server: configUpdateCheck); the rest is chosen when it is made.
_UPDATABLE = frozenset(
    {
        "subjects",
        "allow_direct",
        "allow_msg_ttl",
        "allow_atomic",
        "allow_rollup_hdrs",
        "max_age",
        "max_msgs_per_subject",
        "republish",
        "discard_new_per_subject",
        "max_consumers",
        "no_ack",
        "subject_transform",
        "subject_delete_marker_ttl",
        "consumer_limits",
        "duplicate_window",
        "max_msg_size",
    }
)
_SET: Final = "An update of the stream sets it."
_FOR_GOOD: Final = "No update changes it: back up, delete the stream, have it made anew, restore."


# `settings`: of what must be there; `promises`: with which not all is kept that is promised; `copies`: their nodes;
# `moving`: a move that somebody is at, `stuck`: one that nobody is; `leftovers`: what nobody needs, or not all have
# read.
About = Literal["settings", "promises", "copies", "moving", "stuck", "leftovers"]


class Finding(NamedTuple):
    """One thing that is not as it should be. `mend` does what can be done about it here, `safe`: without a question;
    where it is None, `fix` says what an operator does."""

    where: str
    what: str
    fix: str
    mend: Callable[[], Awaitable[None]] | None = None
    safe: bool = True
    about: About = "settings"


class Survey:
    """Compares everything at the broker with what is needed."""

    def __init__(self, api: Api, mover: Mover, bucket: Bucket) -> None:
        self._api = api
        self._mover = mover
        self._bucket = bucket

    async def findings(self) -> list[Finding]:
        infos = {info["config"]["name"]: info for info in await all_infos(self._api)}
        out: list[Finding] = []
        try:
            layout, _ = await self._mover.layouts.read()
        except BrokerIncompatible as error:
            return [Finding("layout", error.message, error.hint)]
        peers = self._peers(infos)
        ours = [x for x in layout.lodgings if x.stream in infos]
        count = (
            int(_metadata(infos[ours[0].stream]).get(STREAMS, len(layout.of(None)))) if ours else len(layout.of(None))
        )
        unfinished = [m for m in layout.moves if m.phase not in ("left", "gone")]
        busy = {name for m in unfinished for name in (m.source, m.target)}
        out += self._coverage(layout)
        for lodging in layout.lodgings:
            without = ("subjects", "republish", "allow_atomic") if lodging.stream in busy else ()
            out += self._stream(infos, log_stream(lodging, count, peers), without)
        out += self._stream(infos, blob_stream(peers))
        for name in BUCKETS:
            out += self._stream(infos, bucket_stream(name, peers))
        out += await self._moves(layout)
        out += await self._orphans(layout, infos)
        return out

    def _peers(self, infos: Mapping[str, Any]) -> int:
        kept = [i["config"].get("num_replicas", 1) for n, i in infos.items() if n.startswith(("KV_sf-", STREAM_PREFIX))]
        return max(kept, default=1)

    def _coverage(self, layout: Layout) -> list[Finding]:
        out = []
        for tenant in {None, *(x.tenant for x in layout.lodgings)}:
            held = sorted(s for x in layout.of(tenant) for s in x.shards)
            if held != list(range(SHARDS)):
                wrong = sorted(set(range(SHARDS)) - set(held)) or sorted({s for s in held if held.count(s) > 1})
                whose = "the shared streams" if tenant is None else f"tenant {tenant}"
                what = f"Of {whose} these buckets have no stream, or two: {', '.join(map(str, wrong[:20]))}."
                out.append(Finding("layout", what, "Restore the bucket sf-layout from a backup."))
        return out

    def _stream(self, infos: Mapping[str, Any], needed: Config, without: tuple[str, ...] = ()) -> list[Finding]:
        name = str(needed["name"])
        info = infos.get(name)
        if info is None:
            fix = "If there was one, restore it from a backup; else have it made, empty."
            return [Finding(name, "It is missing.", fix, partial(self._create, needed), False)]
        found = info["config"]
        if strange := strangers(found, needed):
            fix = "Give the fabric an account of its own, or that stream another name; then have ours made."
            return [Finding(name, f"It is somebody else's: {strange}.", fix)]
        out: list[Finding] = []
        wrong = differences(found, needed, without=without)
        # One that we have not made, and that holds something, may be somebody's: of a setting something may go.
        safe = is_marked(found) or not info["state"]["messages"]
        update = partial(self._update, needed, without)
        # Every one of them is set by one update, or none is.
        if all(text.split(" ", 1)[0] in _UPDATABLE for text in wrong):
            out = [Finding(name, f"{text}.", _SET, _nothing if n else update, safe) for n, text in enumerate(wrong)]
        else:
            out = [Finding(name, f"{text}.", _FOR_GOOD) for text in wrong]
        for text in breaches(found, needed):
            if text.split(" ", 1)[0] in _UPDATABLE:
                out.append(Finding(name, f"{text}.", _SET, update, safe, about="promises"))
            else:
                out.append(Finding(name, f"{text}.", _FOR_GOOD, about="promises"))
        if dropping := drops(found):
            fix = "An update of the stream has it refuse what does not fit."
            out.append(Finding(name, f"{dropping}.", fix, partial(self._refuse, name)))
        out += self._health(name, info, int(needed["num_replicas"]))
        return out

    def _health(self, name: str, info: Mapping[str, Any], peers: int) -> list[Finding]:
        cluster = info.get("cluster") or {}
        if not cluster:
            return []
        out = []
        if not cluster.get("leader"):
            fix = "Start the nodes that are down: a stream needs more than half of its replicas."
            out.append(Finding(name, "It has no leader: nothing can be stored.", fix, about="copies"))
        if info["config"].get("num_replicas", 1) < peers:
            few = f"It has {info['config'].get('num_replicas', 1)} replicas, others have {peers}."
            mend = partial(self._set_replicas, name, peers)
            out.append(Finding(name, few, "An update adds them.", mend, safe=False, about="copies"))
        for replica in cluster.get("replicas") or []:
            if replica.get("offline"):
                away = f"Its replica on {replica['name']} is offline."
                out.append(Finding(name, away, "Start that node.", about="copies"))
            elif not replica.get("current", True):
                behind = f"Its replica on {replica['name']} is {replica.get('lag', 0)} behind."
                fix = "It catches up by itself; if not, look at that node's disk and log."
                out.append(Finding(name, behind, fix, about="copies"))
        return out

    async def _moves(self, layout: Layout) -> list[Finding]:
        out = []
        unfinished = [m for m in layout.moves if m.phase not in ("left", "gone")]
        mover = await self._bucket.get(MOVER) if unfinished else None
        for move in unfinished:
            count = len(move.shards)
            some = "1 bucket is on its way" if count == 1 else f"{count} buckets are on their way"
            what = f"{some} to {move.target} ({move.phase})."
            if mover is not None:
                who = f"{(mover.value or b'').decode()} is at it: wait."
                out.append(Finding(move.source, what, who, about="moving"))
            else:
                mend = self._carry_on if move is unfinished[0] else _nothing
                what = f"{what} Nobody is at it."
                out.append(Finding(move.source, what, "Bring it to its end.", mend, about="stuck"))
        for move in layout.moves:
            if move.phase != "left":
                continue
            waiting = await self._mover.durables.waiting(move)
            if waiting:
                fix = "They read it by and by; then run `fabricctl stream repair`. Delete those that nobody uses."
                what = (
                    f"It still has what moved to {move.target}, since these have not read it: {', '.join(waiting[:5])}."
                )
                out.append(Finding(move.source, what, fix, about="leftovers"))
            else:
                what = f"It still has what moved to {move.target}."
                fix = "Nobody reads it there: it is removed."
                out.append(Finding(move.source, what, fix, self._tidy, about="leftovers"))
        return out

    async def _orphans(self, layout: Layout, infos: Mapping[str, Any]) -> list[Finding]:
        out = []
        kept = set(layout.streams)
        for name, info in infos.items():
            if _metadata(info).get("session-fabric") == "log" and name not in kept:
                what = f"It is marked as ours and keeps no sessions ({info['state']['messages']} events)."
                fix = "Delete it when nobody misses it."
                out.append(Finding(name, what, fix, partial(self._delete, name), safe=False, about="leftovers"))
        there = await self._mover.places() if all(f"KV_{name}" in infos for name in RECORDS) else None
        leaving = {m.source for m in layout.moves if m.phase in ("placed", "left")}
        for lodging in layout.lodgings:
            if lodging.stream not in infos:
                continue
            for consumer in await self._mover.durables.of(lodging.stream):
                why = self._useless(layout, lodging, consumer["config"]["metadata"], there)
                if why and (lodging.stream not in leaving or "deleted" in why):
                    name = str(consumer["name"])
                    mend = partial(self._delete_consumer, lodging.stream, name)
                    what = f"Its durable subscription {name} {why}."
                    out.append(Finding(lodging.stream, what, "It is removed.", mend, about="leftovers"))
        return out

    def _useless(self, layout: Layout, lodging: Lodging, metadata: Mapping[str, str], there: set[Place] | None) -> str:
        tenant, session = metadata.get("tenant", ""), metadata.get("session", "")
        if tenant and session:
            if there is not None and Place(tenant, session) not in there:
                return "is on a session that was deleted"
            if lodged(layout, tenant, shard(tenant, session)).stream != lodging.stream:
                return "is on a session that is kept elsewhere"
        elif tenant and lodging.tenant is None and layout.of(tenant):
            return "is of a tenant that has streams of its own"
        return ""

    # --- mending --------------------------------------------------------------------------------------

    async def buckets(self, replicas: int | None) -> None:
        """Make the bucket in which the layout is kept, so that who changes it can be told from others."""
        try:
            await self._api.call(f"STREAM.INFO.KV_{BUCKET}")
        except ApiError as error:
            if error.number not in NOT_FOUND:
                raise
            infos = {info["config"]["name"]: info for info in await all_infos(self._api)}
            peers = replicas or (self._peers(infos) if infos else await self._most())
            await self._create(bucket_stream(BUCKET, peers))

    async def _most(self) -> int:
        try:
            await self._create(bucket_stream(BUCKET, 3))
        except ApiError:
            return 1  # 10074: not a cluster; 10005: fewer than three nodes
        return 3

    async def _create(self, needed: Config) -> None:
        await self._api.call(f"STREAM.CREATE.{needed['name']}", needed, timeout_s=15.0)

    async def _update(self, needed: Config, without: tuple[str, ...]) -> None:
        info = await self._api.call(f"STREAM.INFO.{needed['name']}")
        config = dict(info["config"])
        for text in (*differences(config, needed, without=without), *breaches(config, needed)):
            key = text.split(" ", 1)[0]
            if key in _UPDATABLE:
                config[key] = needs(needed, key)
        await self._api.call(f"STREAM.UPDATE.{needed['name']}", config, timeout_s=15.0)

    async def _refuse(self, name: str) -> None:
        info = await self._api.call(f"STREAM.INFO.{name}")
        await self._api.call(f"STREAM.UPDATE.{name}", info["config"] | {"discard": "new"}, timeout_s=15.0)

    async def _set_replicas(self, name: str, replicas: int) -> None:
        await self.set(name, Settings(replicas=replicas))

    async def set(self, stream: str, settings: Settings) -> None:
        """Change what an operator chooses of a stream; what is None stays."""
        info = await self._api.call(f"STREAM.INFO.{stream}")
        config = {**info["config"], **settings.of(info["config"])}
        if config != info["config"]:
            await self._api.call(f"STREAM.UPDATE.{stream}", config, timeout_s=15.0)

    async def _carry_on(self) -> None:
        await self._mover.carry_on()

    async def _tidy(self) -> None:
        await self._mover.tidy()

    async def _delete(self, name: str) -> None:
        await self._api.call(f"STREAM.DELETE.{name}", timeout_s=10.0)

    async def _delete_consumer(self, stream: str, name: str) -> None:
        await self._api.call(f"CONSUMER.DELETE.{stream}.{name}")


async def _nothing() -> None:
    """It is mended together with another."""


def _metadata(info: Mapping[str, Any]) -> Mapping[str, str]:
    return info["config"].get("metadata") or {}
