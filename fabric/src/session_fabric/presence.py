"""Who is there: members in a bucket, alive as long as the lease of the process that holds them.

Nobody renews for a member: each process renews one lease, and the members of one that is gone are removed by the
others (`Presence` is a warden's mender). Joins and leaves are events of the session; a reload within the grace is
neither.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from typing import Final, Literal

from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.leases import Lease
from session_fabric.members import BUCKET, Kept, Member, Members, Shown, Who, event_id
from session_fabric.ports import Broker
from session_fabric.records import Directory
from session_fabric.rules.presence import Beside, on_joining
from session_fabric.words.closing import Closed
from session_fabric.words.errors import BrokerUnavailable, FabricError, InvalidRequest, Unavailable
from session_fabric.words.events import PRESENCE_JOINED, PRESENCE_UPDATED
from session_fabric.words.logs import log
from session_fabric.words.subjects import Place

__all__ = ["BUCKET", "Member", "Presence", "Shown", "Who"]

# How long whoever's connection broke may take to come back without having left.
GRACE_S: Final = 3.0
TRY_AGAIN_S: Final = 0.5
_WAIT_S: Final = 0.05
_SETTLED_WITHIN_S: Final = 5.0
_CLOSE_S: Final = 1.0
_AT_ONCE: Final = 32
_LOOKS: Final = 6


class _Local:
    """A member of ours: how many connections show it, and how much of that the bucket and the session know."""

    __slots__ = (
        "at",
        "changed",
        "connections",
        "error",
        "gives_up_at",
        "kept",
        "leaves_at",
        "number",
        "removed",
        "revision",
        "shown",
        "since",
        "stage",
        "tells",
        "told",
        "told_version",
        "version",
    )

    def __init__(self) -> None:
        self.connections = 0
        self.shown = Shown({})
        self.version = 0
        self.leaves_at = 0.0
        self.changed = asyncio.Event()
        self.error: FabricError | None = None
        self.absent()

    def absent(self) -> None:
        """Nobody knows of it any more."""
        self.stage: Literal["absent", "kept", "there"] = "absent"
        self.kept: Shown | None = None
        self.told: Shown | None = None
        self.told_version = -1
        self.tells: tuple[str, Shown] | None = None
        self.number = 0
        self.since = self.at = self.revision = 0
        self.gives_up_at = 0.0
        self.removed = False


class Presence:
    """The members of this process, kept right in the bucket by one task, each member's changes in their order.

    `gateway`: they are others' devices, which may come back through another gateway when this one dies.
    """

    def __init__(
        self, broker: Broker, directory: Directory, lease: Lease, *, gateway: bool, metrics: Metrics = NOT_COUNTED
    ) -> None:
        self._broker = broker
        self._lease = lease
        self._gateway = gateway
        self._members = Members(broker, directory, gateway=gateway, metrics=metrics)
        self._locals: dict[Who, _Local] = {}
        self._due: set[Who] = set()
        self._busy: set[Who] = set()
        self._doubted = self._looking = False
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._task: asyncio.Task[None] | None = None
        lease.on_lapse(self._lapsed)

    # --- what is told by those who are shown ----------------------------------------------------------

    def join(self, who: Who, shown: Shown) -> None:
        """Show a device as present; another connection that shows it changes what it shows."""
        local = self._locals.setdefault(who, _Local())
        local.connections += 1
        self._show(who, local, shown)

    def update(self, who: Who, shown: Shown) -> None:
        """Change what a device shows; of changes that come faster than they are written the newest counts.

        Raises `InvalidRequest` when it is not present.
        """
        local = self._locals.get(who)
        if local is None or local.connections == 0:
            raise InvalidRequest(f"Device {who.device!r} is not present.", hint="Join first.", device=who.device)
        self._show(who, local, shown)

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
        """Wait until the bucket and the session say what the device showed when this was called.

        Raises `BrokerUnavailable` after 5 s (it is tried on), and what the session refuses it with.
        """
        local = self._locals.get(who)
        if local is None:
            return
        version, leaves = local.version, local.connections == 0
        try:
            async with asyncio.timeout(_SETTLED_WITHIN_S):
                while self._locals.get(who) is local and (local.connections == 0) == leaves:
                    if not leaves and local.told_version >= version:
                        return
                    if self._broker.closed:
                        raise Closed
                    if not leaves and local.error is not None:
                        raise local.error
                    local.changed.clear()
                    await local.changed.wait()
        except TimeoutError as error:
            message = f"Presence was not written within {_SETTLED_WITHIN_S:g} s."
            raise BrokerUnavailable(message, hint="It is written as soon as the broker answers.") from error

    def _show(self, who: Who, local: _Local, shown: Shown) -> None:
        local.shown, local.error = shown, None
        local.version += 1
        self._look(who)

    def _look(self, who: Who) -> None:
        self._again(who)
        if self._task is None and not self._broker.closed:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="presence", context=Context())

    def _again(self, who: Who) -> None:
        self._due.add(who)
        self._wake.set()

    async def members(self, place: Place) -> list[Member]:
        """Return who is there, those first who have been there longest."""
        alive = await self._lease.alive()
        found: dict[Who, Kept] = {}
        for kept in sorted(await self._members.of(place), key=lambda kept: kept.at):
            if kept.holder in alive and not kept.leaving:
                found[kept.who] = kept  # as it came last
        return sorted((kept.member for kept in found.values()), key=lambda member: member.since)

    # --- keeping the bucket right ---------------------------------------------------------------------

    async def _run(self) -> None:
        """See to what has changed, a few members at a time, each by itself."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._doubted and not self._looking:
                    self._doubted, self._looking = False, True
                    group.create_task(self._reconsider())
                for who in self._due - self._busy:
                    self._due.discard(who)
                    self._busy.add(who)
                    group.create_task(self._bring(who))

    async def _bring(self, who: Who) -> None:
        """Bring one member in line; what cannot be done now is done later."""
        local = self._locals.get(who)
        again_s: float | None = None
        try:
            if local is not None:
                async with self._slots:
                    again_s = await self._settle(who, local)
        except Closed:  # whoever finds this process gone sees to it
            assert local is not None
            local.changed.set()
        except Unavailable:
            again_s = TRY_AGAIN_S
        except FabricError as error:
            assert local is not None  # else nothing was done
            log.warning("presence_refused", code=error.code, session=who.place.session)
            local.absent()
            local.error = error
            local.changed.set()
            if local.connections == 0:
                self._locals.pop(who, None)
        except Exception:  # the other members go on
            log.exception("presence_failed", session=who.place.session)
        finally:
            self._busy.discard(who)
            if again_s is not None:
                asyncio.get_running_loop().call_later(again_s, self._again, who)
            elif who in self._due:
                self._wake.set()

    async def _settle(self, who: Who, local: _Local) -> float | None:
        """Do what is due; return after how many seconds to come again."""
        if local.connections > 0:
            return await self._tell(who, local)
        left_s = local.leaves_at - time.monotonic()
        if left_s > 0:
            return left_s
        if local.stage != "absent":
            await self._members.remove(who.key(self._lease.holder), "closed")
            local.absent()
        if local.connections == 0:
            del self._locals[who]
        local.changed.set()
        return None if local.connections == 0 else 0.0

    async def _tell(self, who: Who, local: _Local) -> float | None:
        version, shown = local.version, local.shown
        if local.removed:
            local.absent()
        if shown != local.told:
            again_s = await self._write(who, local, shown)
            if again_s is not None:
                return again_s
        local.told, local.told_version = shown, version
        local.changed.set()
        return None if version == local.version else 0.0

    async def _write(self, who: Who, local: _Local, shown: Shown) -> float | None:
        """Write an entry, then say what is new; return after how many seconds to come again, None: it is done."""
        await self._lease.hold()
        members, holder = self._members, self._lease.holder
        if local.stage == "absent":
            await members.check(who.place)
            await members.check_room(who)
            beside = await members.beside(who, holder)
            now = time.time_ns() // 1000
            local.at = max(now, *(other.at + 1 for other in beside), 0)
            local.since = min((other.since for other in beside), default=now // 1000)
            local.gives_up_at = time.monotonic() + GRACE_S
            local.stage = "kept"
        try:
            if local.kept is None:
                local.revision = await members.put(who, holder, shown, local.since, local.at)
            elif shown != local.kept:
                changed = await members.change(who, holder, shown, local.since, local.at, local.revision)
                local.gives_up_at = local.gives_up_at or time.monotonic() + GRACE_S
                if changed.found == "leaving" and time.monotonic() < local.gives_up_at:
                    return _WAIT_S
                if changed.found != "ours":
                    local.absent()
                    return 0.0
                local.revision = changed.revision
            local.kept = shown
            type: str | None = PRESENCE_UPDATED
            if local.stage == "kept":
                beside = await members.beside(who, holder)
                verdict = on_joining(Beside(local.at, holder, False), [other.beside for other in beside])
                if verdict == "wait" and time.monotonic() < local.gives_up_at:
                    return _WAIT_S
                if verdict != "quiet":
                    type = PRESENCE_JOINED
                elif beside[-1].shown == shown:
                    type = None
            if type is not None:
                if local.tells != (type, shown):
                    local.tells = (type, shown)
                    local.number += 1
                id = event_id(type, who.key(holder), local.at, local.number)
                await members.say(who, type, id, shown._asdict())
        except Unavailable:
            raise
        except FabricError:
            await members.forget(who, holder)
            raise
        local.stage = "there"
        local.gives_up_at = 0.0
        return None

    # --- what others have left (a warden's mender) ----------------------------------------------------

    async def holders(self) -> set[str]:
        """Return the processes that hold members."""
        return await self._members.holders()

    async def mend(self, holder: str) -> None:
        """Remove the members of a process that is gone; those of a gateway may come back within the grace."""
        left = await self._members.of_holder(holder)
        await self._remove_all([kept for kept in left if not kept.gateway], "lost")
        waiting = [kept for kept in left if kept.gateway]
        if waiting:
            await asyncio.sleep(GRACE_S)
            if holder not in await self._lease.alive():
                await self._remove_all(waiting, "lost")

    async def _remove_all(self, gone: list[Kept], reason: str) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(kept: Kept) -> None:
            async with slots:
                await self._members.remove(kept.key, reason)

        await asyncio.gather(*(one(kept) for kept in gone))
        if gone:
            log.info("members_removed", holder=gone[0].holder, members=len(gone), reason=reason)

    # --- when we were taken for dead ------------------------------------------------------------------

    def _lapsed(self) -> None:
        """Others may have removed ours."""
        if self._locals:
            self._doubted = True
            self._wake.set()

    async def _reconsider(self) -> None:
        """Join again whatever of ours has been removed; what is being removed is looked at again."""
        looks = 0
        try:
            while looks < _LOOKS:
                there = {who: local.at for who, local in self._locals.items() if local.stage == "there"}
                try:
                    found = {kept.who: kept for kept in await self._members.of_holder(self._lease.holder)}
                except FabricError:
                    await asyncio.sleep(TRY_AGAIN_S)
                    continue
                looks += 1
                for who, at in there.items():
                    local, kept = self._locals.get(who), found.get(who)
                    removed = kept is None or (kept.leaving and looks == _LOOKS)
                    if local is not None and local.at == at and removed:
                        local.removed = True
                        self._again(who)
                if not any(kept.leaving for kept in found.values()):
                    return
                await asyncio.sleep(TRY_AGAIN_S)
        finally:
            self._looking = False
            if self._doubted:
                self._wake.set()

    async def close(self) -> None:
        """End the task. Members of a gateway stay: who comes back through another one has never left."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._busy.clear()
        if self._broker.connected and not self._gateway:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._remove_all(await self._members.of_holder(self._lease.holder), "closed")
            except (FabricError, TimeoutError) as error:
                log.info("members_left_to_the_warden", error=type(error).__name__)
