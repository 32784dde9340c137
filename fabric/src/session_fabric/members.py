"""Members as the bucket `sf-presence` keeps them, and what a session's log says of them.

Key `<tenant>.<session>.<participant>.<device>.<holder>`: a device may be there through several processes. Whoever
joins writes its entry, then reads the others'; whoever removes one marks it, then reads the others': of two who do so
at the same time at least one sees the other, so that nobody is said to have left who is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import orjson

from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.ports import Broker, Entry
from session_fabric.records import Directory
from session_fabric.rules.bounds import BOUNDS, check_fits
from session_fabric.rules.presence import Beside, Status, has_left
from session_fabric.words import measures
from session_fabric.words.errors import Conflict, Refused
from session_fabric.words.events import PRESENCE_LEFT, PRESENCE_UPDATED
from session_fabric.words.logs import log
from session_fabric.words.names import escape
from session_fabric.words.parsing import read_json
from session_fabric.words.subjects import Place, place_of_key
from session_fabric.writer import Identity, Writer

BUCKET: Final = "sf-presence"


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


class Kept(NamedTuple):
    """An entry of the bucket. `at`: when its process joined, microseconds; `gateway`: the device is somebody else's."""

    key: str
    revision: int
    who: Who
    shown: Shown
    since: int
    at: int
    gateway: bool
    leaving: bool

    @property
    def holder(self) -> str:
        return holder_of(self.key)

    @property
    def beside(self) -> Beside:
        return Beside(self.at, self.holder, self.leaving)

    @property
    def member(self) -> Member:
        return Member(self.who.participant, self.who.device, self.shown.data, self.since, self.shown.status)


class Changed(NamedTuple):
    """What became of an entry of ours: whether another process has removed it, or is about to."""

    revision: int
    found: Literal["ours", "leaving", "removed"]


class Members:
    """The bucket, in the name of one process; `gateway`: what it holds are others' devices."""

    def __init__(self, broker: Broker, directory: Directory, *, gateway: bool, metrics: Metrics = NOT_COUNTED) -> None:
        self._metrics = metrics
        self._broker = broker
        self._directory = directory
        self._gateway = gateway
        self._bucket = broker.bucket(BUCKET)

    async def check(self, place: Place) -> None:
        """Raise `SessionNotFound`, `SessionGone` where nobody can be present."""
        await self._directory.load(place)

    async def of(self, place: Place) -> list[Kept]:
        """Return a session's members, those too whose processes are gone."""
        return [kept for entry in await self._bucket.entries(place.key()) if (kept := read(entry)) is not None]

    async def beside(self, who: Who, holder: str) -> list[Kept]:
        """Return the same device as it is there through other processes, by when it came."""
        entries = await self._bucket.entries(who.key(holder).rpartition(".")[0])
        found = [kept for entry in entries if holder_of(entry.key) != holder and (kept := read(entry)) is not None]
        return sorted(found, key=lambda kept: kept.at)

    async def check_room(self, who: Who) -> None:
        """Raise `LimitExceeded` where a participant is present with as many devices as may be."""
        mine = await self._bucket.entries(who.key("").rsplit(".", 2)[0])
        devices = {entry.key.rsplit(".", 2)[1]: 1 for entry in mine}
        check_fits(BOUNDS[BUCKET], devices, escape(who.device), 1)

    async def holders(self) -> set[str]:
        """Return the processes that have members; reads the whole bucket."""
        return {holder_of(entry.key) for entry in await self._bucket.entries()}

    async def of_holder(self, holder: str) -> list[Kept]:
        """Return the members of one process; reads the whole bucket. Removes what is none."""
        found = []
        for entry in await self._bucket.entries():
            if holder_of(entry.key) == holder:
                kept = read(entry)
                if kept is None:
                    await self._bucket.delete(entry.key)
                else:
                    found.append(kept)
        return found

    async def put(self, who: Who, holder: str, shown: Shown, since: int, at: int) -> int:
        """Write an entry for whoever joins; return its revision."""
        return await self._bucket.put(who.key(holder), _spell(who, shown, since, at, self._gateway))

    async def change(self, who: Who, holder: str, shown: Shown, since: int, at: int, revision: int) -> Changed:
        """Write an entry anew, as long as nobody who took us for dead has removed it."""
        key, value = who.key(holder), _spell(who, shown, since, at, self._gateway)
        while True:
            try:
                return Changed(await self._bucket.swap(key, value, revision=revision), "ours")
            except Conflict:
                entry = await self._bucket.get(key)
                kept = None if entry is None else read(entry)
                if kept is None or kept.at != at:
                    return Changed(0, "removed")
                if kept.leaving:
                    return Changed(0, "leaving")
                revision = kept.revision  # a write of ours, whose answer was lost

    async def forget(self, who: Who, holder: str) -> None:
        """Remove an entry of which nothing was told."""
        await self._bucket.delete(who.key(holder))

    async def say(self, who: Who, type: str, id: str, fields: Mapping[str, Any]) -> None:
        """Tell the session; once for an id. Raises `SessionNotFound`, `SessionGone`, `BrokerUnavailable`."""
        tenant = who.place.tenant
        own = Identity(tenant, "service:gateway", gateway=True) if self._gateway else Identity(tenant, who.participant)
        body = {"type": type, "participant": who.participant, "device": who.device, **fields}
        record = await self._directory.load(who.place)
        said = await Writer(self._broker.log, own).append(record.stretch, body, id=id, since=None, own=True)
        if not said.duplicate:
            self._metrics.count(measures.PRESENCE, type.rpartition(".")[2])

    async def remove(self, key: str, reason: str) -> None:
        """Take a member away and tell the session, unless the device is there through another process.

        Several may do so at once, and one may die in the middle: whoever comes next goes on. An entry that its
        process has written anew since stays.
        """
        entry = await self._bucket.get(key)
        kept = None if entry is None else read(entry)
        first = kept
        while kept is not None and first is not None and kept.at == first.at:
            try:
                revision = await self._mark(kept)
                await self._say_gone(kept, reason)
                await self._bucket.delete(key, revision=revision)
                return
            except Conflict:
                entry = await self._bucket.get(key)
                kept = None if entry is None else read(entry)

    async def _mark(self, kept: Kept) -> int:
        if kept.leaving:
            return kept.revision
        value = _spell(kept.who, kept.shown, kept.since, kept.at, kept.gateway, leaving=True)
        return await self._bucket.swap(kept.key, value, revision=kept.revision)

    async def _say_gone(self, kept: Kept, reason: str) -> None:
        beside = await self.beside(kept.who, kept.holder)
        try:
            # The ids are the same whoever finds out, so that it is written once.
            if has_left([other.beside for other in beside]):
                await self.say(
                    kept.who, PRESENCE_LEFT, event_id(PRESENCE_LEFT, kept.key, kept.at, 0), {"reason": reason}
                )
                return
            newest = [other for other in beside if not other.leaving][-1]
            if newest.at < kept.at and newest.shown != kept.shown:
                id = event_id(PRESENCE_UPDATED, kept.key, kept.at, 0)
                await self.say(kept.who, PRESENCE_UPDATED, id, newest.shown._asdict())
        except Conflict:
            raise
        except Refused:
            pass  # the session is deleted or closed, or another one said it: nobody is told


def event_id(type: str, key: str, at: int, number: int) -> str:
    """Name what is said of one stay of a member, so that it is stored once."""
    return f"{type}:{sha256(f'{key} {at} {number}'.encode()).hexdigest()[:32]}"


def holder_of(key: str) -> str:
    return key.rpartition(".")[2]


def read(entry: Entry) -> Kept | None:
    """Read an entry; None for what is no member."""
    try:
        value = read_json(entry.value or b"")
        who = Who(place_of_key(entry.key), str(value["participant"]), str(value["device"]))
        shown, since = Shown(dict(value["data"]), value.get("status")), int(value["since"])
        at = int(value.get("at", since * 1000))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        log.warning("member_unreadable", key=entry.key)
        return None
    gateway, leaving = bool(value.get("gateway")), bool(value.get("leaving"))
    return Kept(entry.key, entry.revision, who, shown, since, at, gateway, leaving)


def _spell(who: Who, shown: Shown, since: int, at: int, gateway: bool, *, leaving: bool = False) -> bytes:
    value = Member(who.participant, who.device, shown.data, since, shown.status)._asdict()
    return orjson.dumps({**value, "at": at, "gateway": gateway, "leaving": leaving})
