"""Where sessions are kept, as one connection knows it: asked for again before that is too long ago.

What the fabric keeps at the broker is made when it is missing, and checked when it is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from session_fabric.jetstream.api import NOT_FOUND, OVERLAP, Api, ApiError, Backoff
from session_fabric.jetstream.streams import (
    EPOCH,
    LINE,
    STREAMS,
    Config,
    blob_stream,
    bucket_stream,
    check_format,
    differences,
    keeps_sessions,
    log_stream,
    strangers,
)
from session_fabric.ports import BUCKETS, Bucket, Home, Listening, Stretch
from session_fabric.rules.layout import Layout, Lodged, even, in_phase, lodged
from session_fabric.rules.versions import FIRST, Mark
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable, Conflict
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.subjects import OwnPlace, Place, shard_of

BUCKET: Final = "sf-layout"
LAYOUT: Final = "layout"
# Where there is an entry for all that is kept in streams.
RECORDS: Final = ("sf-sessions", "sf-streams")
# Whoever changes the layout holds this key; it goes by itself when they have died.
MOVER: Final = "mover"
# What was removed at the source while a copy was being made; a copy does not hear of it.
PURGES: Final = "purges"
_MOST_KEPT: Final = 16_384
# Of streams that may be others by now: how long each is waited for, when again, and how soon one may have been made.
_LOOK_S, _AGAIN_S, _MADE_WITHIN_S, _AT_ONCE = 1.0, 5.0, 0.05, 32


class Found(NamedTuple):
    """A stream as it is: its name, and in what offsets count in it."""

    name: str
    home: Home


def found(info: Mapping[str, Any]) -> Found:
    config = info["config"]
    metadata = config.get("metadata") or {}
    return Found(config["name"], Home(metadata.get(LINE, config["name"]), metadata.get(EPOCH, info["created"])))


class Topology:
    """The streams that keep sessions, by place."""

    def __init__(self, api: Api, bucket: Bucket) -> None:
        self._api = api
        self._bucket = bucket
        self._first = even(1)
        self._layout = self._first
        self._revision = 0
        self._until = 0.0
        self._unsure = set[str]()  # streams that may be others by now
        self._unsure_again_at = 0.0
        self._streams: dict[str, Found] = {}
        self._kept: dict[Place, Lodged] = {}
        self._asking = asyncio.Lock()
        self._sinks: list[Callable[[], None]] = []
        self._watching: Listening | None = None
        self.replicated = False
        # In which format what is stored was written, as it was when we connected.
        self.mark = FIRST
        # An event may come from a stream in which it does not count: something was moved.
        self.divided = False

    # --- what is known ------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def revision(self) -> int:
        """Rises with each change of the layout that was heard of."""
        return self._revision

    def own(self, stream: str) -> bool:
        """Whether a stream is a tenant's own."""
        lodging = self._layout.named(stream)
        return lodging is not None and lodging.tenant is not None

    def lodged(self, place: Place) -> Lodged:
        """Say where a session is kept, as far as is known."""
        kept = self._kept.get(place)
        if kept is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            kept = self._kept[place] = lodged(self._layout, place.tenant, shard_of(place))
        return kept

    @property
    def counts(self) -> bool:
        """Whether what is known was asked for so lately that it counts."""
        return time.monotonic() < self._until

    async def known(self) -> None:
        """Ask again, where it was so long ago that it does not count any more. Raises `BrokerUnavailable`."""
        if not self.counts:
            await self.refresh()

    async def to_read(self, place: Place) -> Lodged:
        """Say where to read a session. Raises `BrokerUnavailable`."""
        await self.known()
        return self.lodged(place)

    def at_hand(self, place: Place) -> Lodged | None:
        """Say where to write a session; None where `to_write` has to ask, or to wait."""
        at = self.lodged(place) if self.counts else None
        return None if at is None or (at.leaving is not None and at.leaving.phase != "copying") else at

    async def to_write(self, place: Place, backoff: Backoff) -> Lodged:
        """Say where to write a session; wait while it is on its way. Raises `BrokerUnavailable`."""
        while True:
            at = await self.to_read(place)
            if at.leaving is None or at.leaving.phase == "copying":
                return at
            if not await backoff.wait():
                raise BrokerUnavailable(
                    f"{at.stream} is being divided, and takes no events of this session for a moment.",
                    hint="Try again; if it lasts, run `fabricctl stream repair`.",
                )
            await self._free()
            await self.refresh()

    async def _free(self) -> None:
        """Let writers go on where they were, when whoever had them wait has died over it."""
        if await self._bucket.get(MOVER) is None:
            entry = await self._bucket.get(LAYOUT)
            layout = None if entry is None else parsed(entry.value)
            if entry is None or layout is None or not any(m.phase == "cutting" for m in layout.moves):
                return
            log.warning("move_stands_still", streams=[m.source for m in layout.moves if m.phase == "cutting"])
            back = in_phase(layout, "cutting", "copying")
            with suppress(Conflict):  # another process was first, or the move goes on
                await self._bucket.swap(LAYOUT, back.model_dump_json().encode(), revision=entry.revision)

    async def note_purge(self, body: Mapping[str, Any]) -> None:
        """Have what was removed from a stream removed from the copy too that is being made of it."""
        await self._bucket.put(f"{PURGES}.{new_id()}", orjson.dumps(body))

    def home(self, place: Place) -> Home:
        return self._streams[self.lodged(place).stream].home

    @property
    def streams(self) -> list[Found]:
        return [self._streams[lodging.stream] for lodging in self._layout.lodgings]

    # --- how it stays so ----------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Ask the leader where sessions are kept now; those who ask meanwhile share the answer."""
        begun = time.monotonic()
        async with self._asking:
            if self._until > begun:
                return
            asked = time.monotonic()
            entry = await self._bucket.get(LAYOUT)
            revision = 0 if entry is None else entry.revision
            if revision != self._revision or (self._unsure and asked >= self._unsure_again_at):
                layout = self._first if entry is None else parsed(entry.value)
                if layout is None:
                    raise BrokerIncompatible(
                        "Where sessions are kept is written down in a way that this version cannot read.",
                        hint="Use the version that wrote it, or a later one.",
                    )
                await self._find(layout)
                self._layout, self._revision = layout, revision
                self._kept.clear()
                self.divided = bool(layout.moves)
            may_be_made = self._unsure and self._unsure_again_at <= asked
            self._until = asked + (_MADE_WITHIN_S if may_be_made else self._layout.counts_s)

    def look_again(self) -> None:
        """The broker was away: what is there now may be other streams, in which offsets count anew."""
        self._unsure, self._unsure_again_at, self._until = set(self._streams), 0.0, 0.0

    async def _find(self, layout: Layout) -> None:
        """Look up streams that are not known, and those that may be others by now: one that is not to be had stays."""
        names, several = [lodging.stream for lodging in layout.lodgings], asyncio.Semaphore(_AT_ONCE)

        async def look(name: str) -> None:
            async with several:
                try:
                    self._streams[name] = found(await self._api.call(f"STREAM.INFO.{name}", timeout_s=_LOOK_S))
                    self._unsure.discard(name)
                except BrokerUnavailable:  # nobody leads it: sessions of others are not kept waiting for that each time
                    self._unsure_again_at = time.monotonic() + _AGAIN_S
                except ApiError as error:
                    if error.number not in NOT_FOUND:
                        raise

        for name in names:
            if name not in self._streams:
                self._streams[name] = found(await self._api.call(f"STREAM.INFO.{name}"))
        self._unsure.intersection_update(names)
        await asyncio.gather(*(look(name) for name in list(self._unsure)))

    def on_change(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` when the layout has changed, before it is known how; the returned call ends it."""
        self._sinks.append(sink)

        def end() -> None:
            if sink in self._sinks:
                self._sinks.remove(sink)

        return end

    def _heard(self) -> None:
        self._until = 0.0
        for sink in list(self._sinks):
            sink()

    # --- at the beginning ---------------------------------------------------------------------------

    async def infos(self) -> list[dict[str, Any]]:
        """Return the info of every stream that keeps sessions."""
        return [info for info in await all_infos(self._api) if keeps_sessions(info["config"])]

    async def open(self, *, provision: bool, streams: int, replicas: int | None) -> None:
        """Find our streams, make what is missing if allowed, refuse what does not fit; then listen for changes."""
        await self._make(provision, streams, replicas)
        if self._watching is None:  # it is opened again where there was no leader
            self._watching = await self._bucket.watch(LAYOUT, lambda _: self._heard())
        await self.refresh()

    async def make(self, *, streams: int, replicas: int | None) -> None:
        """Make what is missing; what is there and does not fit is left as it is."""
        await self._make(True, streams, replicas, check=False)

    async def _make(self, provision: bool, streams: int, replicas: int | None, *, check: bool = True) -> None:
        # Asked for together: one by one, who is far from the broker waits for twenty answers.
        there = {info["config"]["name"]: info for info in await all_infos(self._api)}
        infos = [info for info in there.values() if keeps_sessions(info["config"])]
        self.mark = check_format([info["config"].get("metadata") or {} for info in infos]) if infos else Mark()
        if not infos and not provision:
            raise BrokerIncompatible(
                "The broker has no session streams.",
                hint="Run `fabricctl stream provision`, which makes them.",
            )
        count = made_together(infos) or streams
        self._first = even(count)
        if infos:
            peers = infos[0]["config"].get("num_replicas", 1)
        else:
            peers = await self._replicas(replicas) if provision else 1
        # This one by itself: who has no right to ask about a stream is told so now, and not when he needs to.
        await self._ensure(blob_stream(peers), {}, provision, check=check)
        for bucket in BUCKETS:
            await self._ensure(bucket_stream(bucket, peers), there, provision, check=check)
        entry = await self._bucket.get(LAYOUT)
        layout = self._first if entry is None else parsed(entry.value) or self._first
        # What is on its way is set as its move has come: whoever moves sets it, or `repair`.
        moving = {name for m in layout.moves if m.phase not in ("left", "gone") for name in (m.source, m.target)}
        for lodging in layout.lodgings:
            without = ("subjects", "republish", "allow_atomic") if lodging.stream in moving else ()
            info = await self._ensure(log_stream(lodging, count, peers), there, provision, without, check=check)
            self._streams[lodging.stream] = found(info)
            self.replicated = self.replicated or info["config"].get("num_replicas", 1) > 1
        self._layout = self._first

    async def _replicas(self, asked: int | None) -> int:
        """Return three in a cluster that can hold three, else one."""
        if asked is not None:
            return asked
        try:
            probe = dict(bucket_stream("sf-sessions", 3), name="KV_sf-sessions")
            info = await self._api.call("STREAM.INFO.KV_sf-sessions")
            return int(info["config"].get("num_replicas", 1))
        except ApiError:
            pass
        try:
            await self._api.call("STREAM.CREATE.KV_sf-sessions", probe, timeout_s=10.0)
        except ApiError:
            return 1  # 10074: replicas > 1 not supported in non-clustered mode; or fewer than three peers
        return 3

    async def _ensure(
        self,
        needed: Config,
        there: Mapping[str, dict[str, Any]],
        provision: bool,
        without: tuple[str, ...] = (),
        *,
        check: bool,
    ) -> dict[str, Any]:
        """Return a stream's info, which is `there` unless it has no leader or is made now."""
        name = needed["name"]
        try:
            info = there.get(name) or await self._api.call(f"STREAM.INFO.{name}")
        except ApiError as error:
            if error.number not in NOT_FOUND:
                raise
            if not provision:
                raise BrokerIncompatible(
                    f"The broker lacks the stream {name}.",
                    hint="Run `fabricctl stream provision`.",
                    stream=name,
                ) from error
            try:
                # Creating what another process has just made the same way answers as if we had.
                info = await self._api.call(f"STREAM.CREATE.{name}", needed, timeout_s=15.0)
                log.info("stream_made", stream=name, replicas=needed["num_replicas"])
            except ApiError as clash:
                info = await self._api.call(f"STREAM.INFO.{name}") if clash.number == 10058 else {}
                if not info:
                    raise await self._unmade(needed, clash) from clash
        if strange := strangers(info["config"], needed):
            raise BrokerIncompatible(
                f"The stream {name} is somebody else's: {strange}. The fabric needs that name, and leaves it alone.",
                hint="Give the fabric an account of its own (`fabricctl broker config`), or that stream another name.",
                stream=name,
            )
        wrong = check and differences(info["config"], needed, without=without)
        if wrong:
            raise BrokerIncompatible(
                f"The stream {name} is not as the fabric needs it: {'; '.join(wrong)}.",
                hint="`fabricctl stream check` shows what is wrong, `fabricctl stream repair` mends it.",
                stream=name,
            )
        return info

    async def _unmade(self, needed: Config, clash: ApiError) -> BrokerIncompatible:
        """Say why a stream cannot be made; of subjects that another one takes, which."""
        why, hint = clash.description, clash.advice or "The account may not allow it."
        if clash.number == OVERLAP:
            for subject in needed["subjects"]:
                there = (await self._api.call("STREAM.NAMES", {"subject": subject})).get("streams") or []
                if there:
                    why = f"{', '.join(there)} takes {subject}"
                    hint = (
                        "Have that stream take subjects of its own alone, or give the fabric an account of its own "
                        "(`fabricctl broker config`)."
                    )
                    break
        return BrokerIncompatible(
            f"The broker cannot make the stream {needed['name']}: {why}.", hint=hint, stream=needed["name"]
        )


def here(at: Lodged, to: Stretch) -> Stretch:
    """Return a stretch as the broker has it: the stream that keeps it now, under the subjects of that."""
    return Stretch(Home(at.stream, to.home.epoch), spelled(at, to.place), to.segment)


def spelled(at: Lodged, place: Place) -> Place:
    """Return a place under the subjects of the stream that keeps it now."""
    return OwnPlace(*place) if at.own else place


def parsed(value: bytes | None) -> Layout | None:
    """Read a layout as the bucket keeps it; None for what cannot be read."""
    try:
        return None if value is None else Layout.model_validate_json(value)
    except ValidationError as error:
        log.error("layout_unreadable", errors=error.error_count())
        return None


def made_together(infos: list[dict[str, Any]]) -> int | None:
    """Return how many streams there were to be when the first was made: another may be making the rest just now, or
    have died at it."""
    counts = [(i["config"].get("metadata") or {}).get(STREAMS) for i in infos]
    said = next((int(count) for count in counts if count), None)
    return said or len(infos) or None


async def all_infos(api: Api) -> list[dict[str, Any]]:
    """Return every stream's info, page by page."""
    out: list[dict[str, Any]] = []
    while True:
        page = await api.call("STREAM.LIST", {"offset": len(out)})
        out += page.get("streams") or []
        if len(out) >= page.get("total", 0) or not page.get("streams"):
            return out


def now_ms() -> int:
    return time.time_ns() // 1_000_000
