"""Who is there: members in a bucket, alive as long as the lease of the gateway that holds them.

Nobody renews for a member: each gateway renews one lease, and the members of one that is gone are removed by the
others. Joins and leaves are events of the session; a reload within the grace is neither.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
import structlog
from session_fabric import Fabric, FabricError, Session
from session_fabric.ports import Entry
from session_fabric.words.errors import Refused, TooLarge, Unavailable
from session_fabric.words.events import PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED
from session_fabric.words.names import escape
from session_fabric.words.subjects import Place, place_of_key

log = structlog.get_logger()

MEMBERS: Final = "sf-presence"
GRACE_S: Final = 3.0
MOST_DATA_BYTES: Final = 4096
_TRY_AGAIN_S: Final = 0.5
_AT_ONCE: Final = 32


class Member(NamedTuple):
    """One device of a participant in a session. `since` is milliseconds since 1970."""

    participant: str
    device: str
    data: Mapping[str, Any]
    since: int


class Who(NamedTuple):
    place: Place
    participant: str
    device: str

    def key(self, holder: str) -> str:
        return f"{self.place.key()}.{escape(self.participant)}.{escape(self.device)}.{holder}"


class _Local:
    """A member of ours: how many connections show it, and what the bucket says of it."""

    __slots__ = ("connections", "data", "leaves_at", "since", "written")

    def __init__(self) -> None:
        self.connections = 0
        self.data: Mapping[str, Any] = {}
        self.since = 0
        self.written: Mapping[str, Any] | None = None
        self.leaves_at = 0.0


class Presence:
    """The members of this gateway's connections, kept right in the bucket by one task (`run`)."""

    def __init__(self, fabric: Fabric, holder: str, alive: Callable[[], Awaitable[frozenset[str]]]) -> None:
        self._fabric = fabric
        self._bucket = fabric.broker.bucket(MEMBERS)
        self._holder = holder
        self._alive = alive
        self._locals: dict[Who, _Local] = {}
        self._due: set[Who] = set()
        self._wake = asyncio.Event()

    # --- what connections tell ----------------------------------------------------------------------

    def join(self, who: Who, data: Mapping[str, Any]) -> None:
        """Show a device as present, or change its data."""
        local = self._locals.setdefault(who, _Local())
        local.connections += 1
        local.data = data
        self._look(who)

    def leave(self, who: Who) -> None:
        """A connection that showed it has ended; it is gone after the grace, unless another one comes."""
        local = self._locals[who]
        local.connections -= 1
        if local.connections == 0:
            local.leaves_at = time.monotonic() + GRACE_S
            self._look(who)

    def _look(self, who: Who) -> None:
        self._due.add(who)
        self._wake.set()

    async def members(self, place: Place) -> list[Member]:
        """Return who is there, those first who have been there longest."""
        alive = await self._alive()
        found: dict[tuple[str, str], Member] = {}
        for entry in await self._bucket.entries(place.key()):
            member = _parse(entry)
            if member is not None and _holder(entry.key) in alive:
                known = found.get((member.participant, member.device))
                if known is None or member.since < known.since:
                    found[member.participant, member.device] = member
        return sorted(found.values(), key=lambda member: member.since)

    # --- keeping the bucket right -------------------------------------------------------------------

    async def run(self) -> None:
        """Write what has changed, again and again until it is written."""
        while True:
            await self._wait()
            due, self._due = self._due, set()
            for who in await self.settle(due):
                self._due.add(who)

    async def _wait(self) -> None:
        self._wake.clear()
        if self._due:
            # What waits for its grace, or for the broker. A new one wakes us at once.
            try:
                async with asyncio.timeout(_TRY_AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
        else:
            await self._wake.wait()

    async def settle(self, due: set[Who]) -> list[Who]:
        """Bring members in line with the bucket, a few at a time; return those that are not yet."""
        slots = asyncio.Semaphore(_AT_ONCE)
        later: list[Who] = []

        async def one(who: Who) -> None:
            async with slots:
                try:
                    settled = await self._settle(who)
                except Unavailable:
                    settled = False
                except FabricError as error:
                    log.warning("presence_not_written", code=error.code, session=who.place.session)
                    settled = True
                if not settled:
                    later.append(who)

        async with asyncio.TaskGroup() as group:
            for who in due:
                group.create_task(one(who))
        return later

    async def _settle(self, who: Who) -> bool:
        local = self._locals.get(who)
        if local is None:
            return True
        if local.connections > 0:
            if local.written != local.data:
                await self._write(who, local)
            return True
        if time.monotonic() < local.leaves_at:
            return False
        if local.written is not None:
            await self._remove(who, self._holder, local.since, "closed")
            local.written = None
        if local.connections > 0:
            return False  # it came back meanwhile
        del self._locals[who]
        return True

    async def _write(self, who: Who, local: _Local) -> None:
        data = local.data
        joins = local.written is None
        if joins:
            local.since = time.time_ns() // 1_000_000
        value = Member(who.participant, who.device, data, local.since)._asdict()
        elsewhere = joins and await self._elsewhere(who, self._holder)
        await self._bucket.put(who.key(self._holder), orjson.dumps(value))
        if not elsewhere:
            type = PRESENCE_JOINED if joins else PRESENCE_UPDATED
            id = _event_id(type, who, self._holder, time.time_ns())
            await self._session(who.place).append_own(_body(type, who, data=data), id=id)
        local.written = data

    async def clean(self, alive: frozenset[str]) -> None:
        """Remove the members of gateways that are gone, and what an earlier life of a session left of ours."""
        ours = {who.key(self._holder) for who in self._locals}
        for entry in await self._bucket.entries():
            holder = _holder(entry.key)
            if holder in alive and (holder != self._holder or entry.key in ours):
                continue
            member = _parse(entry)
            if member is None:
                await self._bucket.delete(entry.key)
                continue
            log.info("member_removed", session=place_of_key(entry.key).session, holder=holder)
            who = Who(place_of_key(entry.key), member.participant, member.device)
            await self._remove(who, holder, member.since, "lost")

    async def _remove(self, who: Who, holder: str, since: int, reason: str) -> None:
        if not await self._elsewhere(who, holder):
            try:
                session = self._session(who.place)
                await session.record(create=False)
                # The id is the same whoever finds out, so that it is written once.
                id = _event_id(PRESENCE_LEFT, who, holder, since)
                await session.append_own(_body(PRESENCE_LEFT, who, reason=reason), id=id)
            except Refused:
                pass  # the session is deleted or closed: nobody is told
        await self._bucket.delete(who.key(holder))

    async def _elsewhere(self, who: Who, holder: str) -> bool:
        """Say whether the device is there through another gateway too."""
        prefix = who.key(holder).rpartition(".")[0]
        holders = {_holder(entry.key) for entry in await self._bucket.entries(prefix)} - {holder}
        return bool(holders) and bool(holders & await self._alive())

    async def reconsider(self) -> None:
        """Look after ours again: the broker was away, and others may have taken us for dead."""
        for who, local in list(self._locals.items()):
            if local.written is not None and await self._bucket.get(who.key(self._holder)) is None:
                local.written = None
                self._look(who)

    def _session(self, place: Place) -> Session:
        return self._fabric.view(tenant=place.tenant, participant="service:gateway", gateway=True).session(
            place.session
        )


def check_data(data: Mapping[str, Any]) -> None:
    """Raise `TooLarge` for more presence data than is kept."""
    size = len(orjson.dumps(data))
    if size > MOST_DATA_BYTES:
        raise TooLarge(
            f"The presence data has {size} bytes; {MOST_DATA_BYTES} is the most.",
            hint="Keep names and states in it, and append the rest as an event.",
            limit=MOST_DATA_BYTES,
        )


def _body(type: str, who: Who, **more: Any) -> dict[str, Any]:
    return {"type": type, "participant": who.participant, "device": who.device, **more}


def _event_id(type: str, who: Who, holder: str, number: int) -> str:
    return f"{type}:{sha256(f'{who.key(holder)} {number}'.encode()).hexdigest()[:32]}"


def _holder(key: str) -> str:
    return key.rpartition(".")[2]


def _parse(entry: Entry) -> Member | None:
    try:
        value = orjson.loads(entry.value or b"")
        return Member(str(value["participant"]), str(value["device"]), dict(value["data"]), int(value["since"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        log.warning("member_unreadable", key=entry.key)
        return None
