"""Keeps sessions to their retention: trims what is too old or too much, deletes what is past its age.

One process at a time, of all that watch over sessions: whose turn it is stands in a bucket, and ends with its TTL when
that process dies. It knows each session that something is said of, and when it has to be looked at next; nobody looks
at all of them all the time. Two at it at once would do no harm: what is removed is said first, under compare-and-set.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from dataclasses import dataclass
from typing import Final

from session_fabric import lifecycle
from session_fabric import records as kept
from session_fabric import tenants as tenancy
from session_fabric.parts import SERVICE, Common, Parts
from session_fabric.ports import Broker, Entry, Listening, Wanted
from session_fabric.records import SessionRecord, parse
from session_fabric.redacting import forgetting, removing
from session_fabric.rules.cuts import GRACE_MS
from session_fabric.rules.holds import Hold
from session_fabric.rules.retention import Facts, Retention, delete_at_ms, effective, next_look_ms
from session_fabric.tenants import TenantRules
from session_fabric.trimming import Trimming, Weighed
from session_fabric.under_way import runs_under_way
from session_fabric.words.errors import Conflict, FabricError, SessionGone, SessionHeld, SessionNotFound
from session_fabric.words.logs import log
from session_fabric.words.measures import RETENTION_LOOKS, RETENTION_SESSIONS, RETENTION_TURN
from session_fabric.words.names import unescape
from session_fabric.words.subjects import Place, place_of_key
from session_fabric.writer import Identity

# Beside the tenants' own keys, which begin with a letter or digit.
TURN_KEY: Final = "_turn.trimmer"
TURN_S: Final = 10
# What no watch told of is found this late.
LIST_S: Final = 3600.0
# A look costs the broker a few requests: so many a second at most, and so many at once.
LOOKS_PER_S: Final = 200
_AT_ONCE: Final = 8
# What is due and could not be removed now (a run is under way) is looked at again after this.
AGAIN_MS: Final = 60_000
_NOT_DUE: Final = 1 << 62


@dataclass(slots=True)
class _Known:
    """A session of which something is said, and when to look at it."""

    record: SessionRecord
    due_ms: int
    facts: Facts | None = None
    weighed: Weighed | None = None
    newest: int = 0
    # It is being looked at, and nobody else of this process does so meanwhile.
    looked_at: bool = False
    # Since that began its record has changed, and its retention in it.
    news: bool = False
    said_anew: bool = False


class Trimmer:
    """One process's readiness to do it; `run` is its whole life and wants an owner.

    `below` is the broker under the seals: what was said is not looked at, so that no key is needed.
    """

    def __init__(self, common: Common, below: Broker, *, grace_ms: int = GRACE_MS, turn_s: int = TURN_S) -> None:
        self._common = common._replace(broker=below)
        self._below = below
        self._metrics = common.metrics
        self._trimming = Trimming(below, common.directory, grace_ms, common.metrics)
        self._turns = below.bucket(tenancy.BUCKET)
        self._turn_s = turn_s
        self._tenants: dict[str, TenantRules] = {}
        self._known: dict[Place, _Known] = {}
        self._due: list[tuple[int, Place]] = []
        self._unlisted = True
        # While all records are listed: those that were heard of meanwhile, at which revision.
        self._heard: dict[str, int] | None = None
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Wait for one's turn and have it, until cancelled; survives a lost broker."""
        while True:
            try:
                revision = await self._turns.swap(TURN_KEY, self._me, revision=0, ttl_s=self._turn_s)
                await self._have_turn(revision)
            except Conflict:
                pass  # it is another's
            except FabricError as error:
                log.info("trimmer_waits", code=error.code)
            await asyncio.sleep(self._turn_s * 0.3)

    @property
    def _me(self) -> bytes:
        return self._below.holder.encode()

    async def _have_turn(self, revision: int) -> None:
        """Work for as long as the turn is renewed. Raises `Conflict` when it has become another's."""
        working = asyncio.create_task(self._work(), name="trimming")
        self._metrics.set(RETENTION_TURN, 1)
        try:
            while not working.done():
                await asyncio.wait([working], timeout=self._turn_s * 0.3)
                if not working.done():
                    revision = await self._turns.swap(TURN_KEY, self._me, revision=revision, ttl_s=self._turn_s)
            await working
        finally:
            self._metrics.set(RETENTION_TURN, 0)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            if self._below.connected:
                with contextlib.suppress(FabricError):
                    await self._turns.delete(TURN_KEY, revision=revision)

    async def _work(self) -> None:
        watching: list[Listening] = []
        try:
            watching.append(await self._turns.watch("", self._tenant_changed))
            watching.append(await self._below.bucket(kept.BUCKET).watch("", self._hear))
            slots = asyncio.Semaphore(_AT_ONCE)
            self._unlisted, listed = True, 0.0
            async with asyncio.TaskGroup() as group:
                while True:
                    self._metrics.set(RETENTION_SESSIONS, len(self._known))
                    self._wake.clear()  # before it is looked what there is to do: what comes from here on wakes again
                    if self._unlisted or time.monotonic() - listed >= LIST_S:
                        self._unlisted, listed = False, time.monotonic()
                        await self._list()
                    while (known := self._next()) is not None:
                        await slots.acquire()
                        group.create_task(self._see_to(known, slots), name=f"look at {known.record.session}")
                        await asyncio.sleep(1 / LOOKS_PER_S)
                    pause_s = (self._due[0][0] - _now_ms()) / 1000 if self._due else LIST_S
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(0.01, min(pause_s, LIST_S))):
                            await self._wake.wait()
        finally:
            self._metrics.set(RETENTION_SESSIONS, 0)
            self._known.clear()
            self._due.clear()
            if self._below.connected:
                for each in watching:
                    await each.close()

    # --- which sessions, and when -------------------------------------------------------------------

    async def _list(self) -> None:
        """Look through all records once."""
        rules = [entry for entry in await self._turns.entries() if not entry.key.startswith("_")]
        self._tenants = {unescape(entry.key): _rules(entry) for entry in rules}
        heard = self._heard = {}
        for entry in await self._below.bucket(kept.BUCKET).entries():
            if entry.revision >= heard.get(entry.key, 0):
                self._take(entry)
        self._heard = None

    def _hear(self, entry: Entry) -> None:
        if self._heard is not None:
            self._heard[entry.key] = entry.revision
        self._take(entry)

    def _tenant_changed(self, entry: Entry) -> None:
        if not entry.key.startswith("_"):
            self._unlisted = True  # rare: its sessions may be due now, those among them of which nothing was said
            self._wake.set()

    def _limits(self, record: SessionRecord) -> Retention:
        return effective(self._tenants.get(record.tenant, TenantRules()).retention, record.retention)

    def _take(self, entry: Entry) -> None:
        """Take note of a record as it is now."""
        place = place_of_key(entry.key)
        record = None if entry.value is None else parse(entry.value)
        if record is None or not self._concerns(record):
            self._known.pop(place, None)
            return
        known = self._known.get(place)
        said_anew = bool(record.retention) if known is None else record.retention != known.record.retention
        if known is None:
            known = self._known[place] = _Known(record, _NOT_DUE)
        known.record, known.news, known.said_anew = record, True, known.said_anew or said_anew
        if known.looked_at:
            return  # most of what is told then is of the look itself
        # Due since before and not looked at yet: it stays so, whatever has changed since, and is noted down once.
        if (due_ms := self._due_ms(known)) < known.due_ms:
            self._look_at(known, due_ms)

    def _due_ms(self, known: _Known) -> int:
        """Say when a session is to be looked at, as its record is now."""
        record, now_ms = known.record, _now_ms()
        if record.owed or known.said_anew or record.redacting or record.forgetting is not None:
            return now_ms
        facts = known.facts or Facts(record.created)
        return next_look_ms(self._limits(record), record.state, facts, now_ms) or now_ms

    def _concerns(self, record: SessionRecord) -> bool:
        """Say whether anything of a session may ever have to go; while it is held, nothing does."""
        rules = self._tenants.get(record.tenant, TenantRules())
        if record.holds or rules.holds:
            return False
        if record.redacting or record.forgetting is not None:
            return True
        return record.owed or (record.state != "deleted" and self._limits(record).says_anything)

    def _look_at(self, known: _Known, due_ms: int) -> None:
        known.due_ms = due_ms
        heapq.heappush(self._due, (due_ms, known.record.place))
        self._wake.set()

    def _next(self) -> _Known | None:
        """Return a session that is due, and count it as not due until it was looked at."""
        now_ms = _now_ms()
        while self._due and self._due[0][0] <= now_ms:
            due_ms, place = heapq.heappop(self._due)
            known = self._known.get(place)
            if known is not None and known.due_ms == due_ms:
                known.due_ms = now_ms + AGAIN_MS
                return known
        return None

    # --- looking ------------------------------------------------------------------------------------

    async def _see_to(self, known: _Known, slots: asyncio.Semaphore) -> None:
        due_ms: int | None = _now_ms() + AGAIN_MS
        known.looked_at, known.news, known.said_anew = True, False, False
        try:
            outcome, due_ms = await self._look(known)
            self._metrics.count(RETENTION_LOOKS, outcome)
        except (SessionNotFound, SessionGone, SessionHeld):
            self._metrics.count(RETENTION_LOOKS, "kept")
            due_ms = None
        except FabricError as error:
            self._metrics.count(RETENTION_LOOKS, "failed")
            log.warning("session_not_looked_at", session=known.record.session, code=error.code, detail=error.message)
        except Exception:  # the others have their time too
            self._metrics.count(RETENTION_LOOKS, "failed")
            log.exception("session_not_looked_at", session=known.record.session)
        finally:
            known.looked_at = False
            slots.release()
        place = known.record.place
        if self._known.get(place) is not known:
            return
        if known.news:  # what was seen may be of before: it stays due when the change says, if that is earlier
            again_ms = self._due_ms(known)
            self._look_at(known, again_ms if due_ms is None else min(due_ms, again_ms))
        elif due_ms is None:
            del self._known[place]
        else:
            self._look_at(known, due_ms)

    async def _look(self, known: _Known) -> tuple[str, int | None]:
        """Do what is due in a session; return what came of it (of `RETENTION_LOOKS`), and when to look again, None:
        never, as far as is known."""
        place = known.record.place
        found = await self._common.directory.find(place, fresh=True)
        if found is None or not self._concerns(found[0]):
            return "kept", None
        record = known.record = found[0]
        now_ms = _now_ms()
        if record.owed and not await self._trimming.pay(place):
            return "waits", now_ms + AGAIN_MS
        if record.state == "deleted":
            return "trimmed" if record.owed else "kept", None
        again_ms = await removing.finish(self._below, self._common.directory, record, now_ms, self._metrics)
        if again_ms is not None:
            return "waits", again_ms
        if record.forgetting is None:
            return await self._keep_to_limits(known, record, now_ms)
        forgotten = await forgetting.forget_noted(self._below, self._common.directory, record)
        outcome, due_ms = await self._keep_to_limits(known, record, now_ms)
        if outcome == "deleted" or not (forgotten.left or forgotten.waits_for):
            return outcome, due_ms
        return "waits", now_ms + AGAIN_MS if due_ms is None else min(due_ms, now_ms + AGAIN_MS)

    async def _keep_to_limits(self, known: _Known, record: SessionRecord, now_ms: int) -> tuple[str, int | None]:
        """Remove what is too old or too much; return as `_look` does."""
        limits = self._limits(record)
        newest = [await self._below.log.newest(record.stretch, Wanted(kind)) for kind in ("ev", "in", "own")]
        last = max((one for one in newest if one is not None), key=lambda one: one.sequence, default=None)
        newest_ms, at = (record.created, 0) if last is None else (max(record.created, last.ts), last.sequence)
        delete_at = delete_at_ms(limits, record.state, newest_ms)
        if delete_at is not None and delete_at <= now_ms:
            if await runs_under_way(self._below, record):
                return "waits", now_ms + AGAIN_MS
            parts = Parts.of(self._common, Identity(record.tenant, SERVICE), record.session)
            await lifecycle.delete(parts, "retention")
            log.info("session_expired", session=record.session)
            return "deleted", None
        looked = await self._trimming.trim(record, limits, now_ms, known.weighed)
        quiet = known.facts.quiet + 1 if known.facts is not None and at == known.newest else 0
        known.facts, known.weighed, known.newest = Facts(newest_ms, looked.oldest_ms, quiet), looked.weighed, at
        due = next_look_ms(limits, record.state, known.facts, now_ms)
        if looked.more:
            return "trimmed", now_ms
        if looked.floor != record.floor_offset:
            return "trimmed", due
        outcome = "trimmed" if record.owed else "kept"  # what another one had begun
        if due is not None and due < now_ms + AGAIN_MS:
            return outcome, now_ms + AGAIN_MS  # what is due by its age and is still there has to wait for somebody
        return outcome, due


def _rules(entry: Entry) -> TenantRules:
    """Read what is said of a tenant; of one where that cannot be read nothing goes."""
    try:
        return tenancy.parse(entry.value)
    except Conflict as error:
        return TenantRules(holds=(Hold(name="unreadable", reason=error.message, by=SERVICE, since=0),))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
