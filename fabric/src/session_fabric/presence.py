"""Who is there: members in a bucket, alive as long as the lease of the process that holds them.

Nobody renews for a member: each process renews one lease, and the members of one that is gone are removed by the
others (`Presence` is a warden's mender). Joins and leaves are events of the session; a reload within the grace is
neither. Bucket `sf-presence`, key `<tenant>.<session>.<participant>.<device>.<holder>`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from session_fabric.leases import Lease
from session_fabric.ports import Broker, Entry
from session_fabric.records import Directory
from session_fabric.rules.presence import Status
from session_fabric.words.errors import FabricError, Refused, Unavailable
from session_fabric.words.events import PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED
from session_fabric.words.logs import log
from session_fabric.words.names import escape
from session_fabric.words.subjects import Place, place_of_key
from session_fabric.writer import Identity, Writer

BUCKET: Final = "sf-presence"
# How long whoever's connection broke may take to come back without having left.
GRACE_S: Final = 3.0
TRY_AGAIN_S: Final = 0.5
_AT_ONCE: Final = 32


class Member(NamedTuple):
    """One device of a participant in a session. `since` is milliseconds since 1970."""

    participant: str
    device: str
    data: Mapping[str, Any]
    since: int
    status: Status | None = None


class Who(NamedTuple):
    place: Place
    participant: str
    device: str

    def key(self, holder: str) -> str:
        return f"{self.place.key()}.{escape(self.participant)}.{escape(self.device)}.{holder}"


class Shown(NamedTuple):
    """What a member shows of itself."""

    data: Mapping[str, Any]
    status: Status | None = None


class _Local:
    """A member of ours: how many connections show it, and what the bucket says of it."""

    __slots__ = ("connections", "leaves_at", "settled", "shown", "since", "written")

    def __init__(self) -> None:
        self.connections = 0
        self.shown = Shown({})
        self.since = 0
        self.written: Shown | None = None
        self.leaves_at = 0.0
        self.settled = asyncio.Event()


class Presence:
    """The members of this process, kept right in the bucket by one task.

    `gateway`: they are others' devices, which may come back through another gateway when this one dies.
    """

    def __init__(self, broker: Broker, directory: Directory, lease: Lease, *, gateway: bool) -> None:
        self._broker = broker
        self._directory = directory
        self._lease = lease
        self._gateway = gateway
        self._bucket = broker.bucket(BUCKET)
        self._locals: dict[Who, _Local] = {}
        self._due: set[Who] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        lease.on_lapse(self._lapsed)

    # --- what is told by those who are shown ----------------------------------------------------------

    def join(self, who: Who, shown: Shown) -> None:
        """Show a device as present; another connection that shows it changes what it shows."""
        local = self._locals.setdefault(who, _Local())
        local.connections += 1
        local.shown = shown
        self._look(who)

    def update(self, who: Who, shown: Shown) -> None:
        """Change what a device shows."""
        self._locals[who].shown = shown
        self._look(who)

    def shows(self, who: Who) -> Shown | None:
        """Return what a device of ours shows; None when it is not shown."""
        local = self._locals.get(who)
        return None if local is None or local.connections == 0 else local.shown

    def leave(self, who: Who, *, at_once: bool = False) -> None:
        """A connection that showed it has ended; it is gone after the grace, unless another one comes."""
        local = self._locals[who]
        local.connections -= 1
        if local.connections == 0:
            local.leaves_at = 0.0 if at_once else time.monotonic() + GRACE_S
            self._look(who)

    async def settled(self, who: Who) -> None:
        """Wait until the bucket and the session say what the device shows now."""
        local = self._locals.get(who)
        while local is not None and local is self._locals.get(who):
            if local.connections > 0 and local.written == local.shown:
                return
            local.settled.clear()
            await local.settled.wait()

    def _look(self, who: Who) -> None:
        self._due.add(who)
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="presence")

    async def members(self, place: Place) -> list[Member]:
        """Return who is there, those first who have been there longest."""
        alive = await self._lease.alive()
        found: dict[tuple[str, str], Member] = {}
        for entry in await self._bucket.entries(place.key()):
            member = _parse(entry)
            if member is not None and _holder(entry.key) in alive:
                known = found.get((member.participant, member.device))
                if known is None or member.since < known.since:
                    found[member.participant, member.device] = member
        return sorted(found.values(), key=lambda member: member.since)

    # --- keeping the bucket right ---------------------------------------------------------------------

    async def _run(self) -> None:
        """Write what has changed, again and again until it is written."""
        while True:
            await self._wait()
            due, self._due = self._due, set()
            self._due |= await self._settle_all(due)

    async def _wait(self) -> None:
        if self._due:
            # What waits for its grace, or for the broker. A new one wakes us at once.
            try:
                async with asyncio.timeout(TRY_AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
        else:
            await self._wake.wait()
        self._wake.clear()

    async def _settle_all(self, due: set[Who]) -> set[Who]:
        """Bring members in line with the bucket, a few at a time; return those that are not yet."""
        slots = asyncio.Semaphore(_AT_ONCE)
        later: set[Who] = set()

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
                    later.add(who)

        async with asyncio.TaskGroup() as group:
            for who in due:
                group.create_task(one(who))
        return later

    async def _settle(self, who: Who) -> bool:
        local = self._locals.get(who)
        if local is None:
            return True
        if local.connections > 0:
            if local.written != local.shown:
                await self._write(who, local)
            local.settled.set()
            return local.written == local.shown
        if time.monotonic() < local.leaves_at:
            return False
        if local.written is not None:
            await self._remove(who, self._lease.holder, local.since, "closed")
            local.written = None
        if local.connections > 0:
            return False  # it came back meanwhile
        del self._locals[who]
        local.settled.set()
        return True

    async def _write(self, who: Who, local: _Local) -> None:
        await self._lease.hold()
        shown = local.shown
        joins = local.written is None
        if joins:
            local.since = time.time_ns() // 1_000_000
        value = Member(who.participant, who.device, shown.data, local.since, shown.status)._asdict()
        elsewhere = joins and await self._elsewhere(who, self._lease.holder)
        await self._bucket.put(who.key(self._lease.holder), orjson.dumps(value | {"gateway": self._gateway}))
        if not elsewhere:
            type = PRESENCE_JOINED if joins else PRESENCE_UPDATED
            id = _event_id(type, who, self._lease.holder, time.time_ns())
            await self._say(who, _body(type, who, data=shown.data, status=shown.status), id)
        local.written = shown

    async def _say(self, who: Who, body: Mapping[str, Any], id: str) -> None:
        tenant = who.place.tenant
        own = Identity(tenant, "service:gateway", gateway=True) if self._gateway else Identity(tenant, who.participant)
        record = await self._directory.load(who.place)
        await Writer(self._broker.log, own).append(record.stretch, body, id=id, since=None, own=True)

    async def _remove(self, who: Who, holder: str, since: int, reason: str) -> None:
        if not await self._elsewhere(who, holder):
            try:
                # The id is the same whoever finds out, so that it is written once.
                id = _event_id(PRESENCE_LEFT, who, holder, since)
                await self._say(who, _body(PRESENCE_LEFT, who, reason=reason), id)
            except Refused:
                pass  # the session is deleted or closed: nobody is told
        await self._bucket.delete(who.key(holder))

    async def _elsewhere(self, who: Who, holder: str) -> bool:
        """Say whether the device is there through another process too."""
        prefix = who.key(holder).rpartition(".")[0]
        holders = {_holder(entry.key) for entry in await self._bucket.entries(prefix)} - {holder}
        return bool(holders) and bool(holders & await self._lease.alive())

    # --- what others have left (a warden's mender) ----------------------------------------------------

    async def holders(self) -> set[str]:
        """Return the processes that hold members."""
        return {_holder(entry.key) for entry in await self._bucket.entries()}

    async def mend(self, holder: str) -> None:
        """Remove the members of a process that is gone; those of a gateway may come back within the grace."""
        left = [entry for entry in await self._bucket.entries() if _holder(entry.key) == holder]
        found = [(entry, _parse(entry)) for entry in left]
        waiting = [pair for pair in found if pair[1] is not None and _of_gateway(pair[0])]
        await self._remove_all(holder, [pair for pair in found if pair not in waiting])
        if waiting:
            await asyncio.sleep(GRACE_S)
            await self._remove_all(holder, waiting)

    async def _remove_all(self, holder: str, found: list[tuple[Entry, Member | None]]) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(entry: Entry, member: Member | None) -> None:
            async with slots:
                if member is None:
                    await self._bucket.delete(entry.key)
                    return
                who = Who(place_of_key(entry.key), member.participant, member.device)
                log.info("member_removed", session=who.place.session, holder=holder)
                await self._remove(who, holder, member.since, "lost")

        await asyncio.gather(*(one(entry, member) for entry, member in found))

    def _lapsed(self) -> None:
        """Others may have taken us for dead, and removed ours."""
        for who, local in self._locals.items():
            local.written = None
            self._look(who)

    async def close(self) -> None:
        """End the task. Members of a gateway stay: who comes back through another one has never left."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._broker.connected and not self._gateway:
            try:
                async with asyncio.timeout(1.0):
                    for who, local in self._locals.items():
                        if local.written is not None:
                            await self._remove(who, self._lease.holder, local.since, "closed")
            except (FabricError, TimeoutError) as error:
                log.info("members_left_to_the_warden", error=type(error).__name__)


def _body(type: str, who: Who, **more: Any) -> dict[str, Any]:
    return {"type": type, "participant": who.participant, "device": who.device, **more}


def _event_id(type: str, who: Who, holder: str, number: int) -> str:
    return f"{type}:{sha256(f'{who.key(holder)} {number}'.encode()).hexdigest()[:32]}"


def _holder(key: str) -> str:
    return key.rpartition(".")[2]


def _of_gateway(entry: Entry) -> bool:
    return bool(orjson.loads(entry.value or b"{}").get("gateway"))


def _parse(entry: Entry) -> Member | None:
    try:
        value = orjson.loads(entry.value or b"")
        return Member(
            str(value["participant"]),
            str(value["device"]),
            dict(value["data"]),
            int(value["since"]),
            value.get("status"),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        log.warning("member_unreadable", key=entry.key)
        return None
