"""Session records: which segments make a session up, in what state it is; kept in the bucket `sf-sessions`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from session_fabric.keyring import Keyring, Sealed, key_missing, new_sealed
from session_fabric.ports import Broker, Entry, Home, Listening, Stretch
from session_fabric.rules.holds import Hold
from session_fabric.rules.policy import Policy
from session_fabric.rules.redactions import Redacting
from session_fabric.rules.segments import Segment, next_segment_id
from session_fabric.sealing import LOOKED_AT, Sealing
from session_fabric.words.errors import Conflict, FabricError, SessionGone, SessionNotFound
from session_fabric.words.logs import log
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place, place_of_key

BUCKET = "sf-sessions"
# How many records a process keeps at hand; the rest are read again.
_KEPT = 20_000
# Of how many changed records the newest revision is remembered: those that change while one reads them.
_HEARD = 1000
_TRIES = 20

State = Literal["open", "closed", "deleted"]


class Imported(BaseModel):
    """The export that a session was made of, by its last hash; `done` once all of it is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: str
    done: bool = False


class SessionRecord(BaseModel):
    """A session as the bucket keeps it. `created` is milliseconds since 1970; `floor` the newest removed offset.

    `participants`: who takes part for good, present or not: whoever made it first, and whom was added since.
    `owed`: what is at or below the floor is still to be removed. `retention`: what is said of this session alone.
    `redacting`: redactions whose bodies are still to be removed. `forgetting`: since when (milliseconds since 1970)
    what agents have saved of it is to be removed, because something was redacted; None: it is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str
    session: str
    created: int
    state: State = "open"
    labels: Mapping[str, str] = {}
    segments: tuple[Segment, ...]
    floor: tuple[int, int] = (0, 0)
    source: str | None = None
    forks: tuple[str, ...] = ()
    policy: Policy = Policy()
    participants: tuple[str, ...] = ()
    sealed: Sealed | None = None
    owed: bool = False
    retention: Mapping[str, int | None] = {}
    holds: tuple[Hold, ...] = ()
    imported: Imported | None = None
    redacting: tuple[Redacting, ...] = ()
    forgetting: int | None = None

    @property
    def place(self) -> Place:
        return Place(self.tenant, self.session)

    @property
    def stretch(self) -> Stretch:
        """Where new events go."""
        return stretch_of(self.segments[-1])

    @property
    def begin(self) -> int:
        """The sequence above which this life of the session lies, in the stream where new events go."""
        return self.segments[-1].after

    def has(self, segment: int) -> bool:
        """Say whether a segment is this session's, in this life of it."""
        return any(one.id == segment for one in self.segments)

    @property
    def floor_offset(self) -> Offset:
        return Offset(*self.floor)

    def public(self) -> dict[str, object]:
        """Return what a participant may see of it."""
        return {
            "session": self.session,
            "created": self.created,
            "state": self.state,
            "labels": dict(self.labels),
            "source": self.source,
            "policy": self.policy.model_dump(),
            "participants": list(self.participants),
        }


class Listed(NamedTuple):
    """A record as a list has it: None where it cannot be read; `ts` is when it was written."""

    record: SessionRecord | None
    revision: int
    ts: int


def stretch_of(segment: Segment) -> Stretch:
    return Stretch(Home(segment.stream, segment.epoch), Place(segment.tenant, segment.session), segment.id)


class Directory:
    """The records of one broker: read once, then kept right by the bucket's changes."""

    bucket: ClassVar[str] = BUCKET
    model: ClassVar[type[SessionRecord]] = SessionRecord

    def __init__(self, broker: Broker, keys: Keyring | None = None) -> None:
        self._broker = broker
        self._keys = keys
        self._bucket = broker.bucket(self.bucket)
        self._kept: OrderedDict[Place, tuple[SessionRecord, int]] = OrderedDict()
        self._heard: OrderedDict[Place, int] = OrderedDict()
        self._sealing = Sealing(keys)
        self._watchers: dict[Place, list[Callable[[SessionRecord | None], None]]] = {}
        self._watching: Listening | None = None
        self._unhook: Callable[[], None] | None = None

    async def open(self) -> None:
        self._watching = await self._bucket.watch("", self._changed)
        # What changed while the connection was away was not heard of.
        self._unhook = self._broker.on_connection(self._reconnected)

    async def close(self) -> None:
        if self._unhook is not None:
            self._unhook()
        if self._watching is not None and self._broker.connected:
            await self._watching.close()

    def _reconnected(self, _: object) -> None:
        self._kept.clear()
        self._sealing.forget()

    def _changed(self, entry: Entry) -> None:
        place = place_of_key(entry.key)
        record = None if entry.value is None else parse(entry.value, self.model)
        self._heard[place] = entry.revision
        self._heard.move_to_end(place)
        if len(self._heard) > _HEARD:
            self._heard.popitem(last=False)
        if record is None:
            self._kept.pop(place, None)
        elif place in self._kept and self._kept[place][1] < entry.revision:
            self._kept[place] = (record, entry.revision)
        if record is not None and record.sealed is not None:
            self._sealing.heard(place.tenant, record.sealed)
        for watcher in list(self._watchers.get(place, ())):
            watcher(record)

    async def home(self, place: Place) -> Home:
        """Return the stream in which a new segment of a session begins."""
        return await self._broker.log.home(place)

    async def first_segment(self, place: Place, behind: int = 0) -> Segment:
        """Return where a new life begins; its id is the time, and above `behind`, of what it has inherited."""
        home = await self.home(place)
        id = next_segment_id(time.time_ns() // 1000, behind)
        # Whatever an earlier life has left behind lies below.
        below = await self._broker.log.head(Stretch(home, place, id))
        return Segment(id, home.stream, home.epoch, place.tenant, place.session, below)

    async def end(self, record: SessionRecord) -> int:
        """Return the newest sequence of a session, from the leader."""
        return await self._broker.log.head(record.stretch)

    def watch(self, place: Place, sink: Callable[[SessionRecord | None], None]) -> Callable[[], None]:
        """Call `sink` with each change of a record, None when it is removed; the returned call ends it."""
        self._watchers.setdefault(place, []).append(sink)

        def end() -> None:
            sinks = self._watchers.get(place, [])
            if sink in sinks:
                sinks.remove(sink)
            if not sinks:
                self._watchers.pop(place, None)

        return end

    async def find(self, place: Place, *, fresh: bool = False) -> tuple[SessionRecord, int] | None:
        """Return a record and its revision, None where there is none; `fresh` asks the broker's leader."""
        known = self._kept.get(place)
        if known is not None and not fresh:
            self._kept.move_to_end(place)
            return known
        entry = await self._bucket.get(place.key())
        if entry is None or entry.value is None:
            self._kept.pop(place, None)
            return None
        record = parse(entry.value, self.model)
        if record is None:
            return None
        self._keep(record, entry.revision)
        return record, entry.revision

    def at_hand(self, place: Place) -> SessionRecord | None:
        """Return a record as it was last heard of, None where it is not at hand; no I/O."""
        known = self._kept.get(place)
        return None if known is None else known[0]

    def _keep(self, record: SessionRecord, revision: int) -> None:
        """Keep a record at hand, unless a newer one was heard of while this was on its way."""
        place = record.place
        if revision < self._heard.get(place, 0):
            return
        self._kept[place] = (record, revision)
        self._kept.move_to_end(place)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def not_found(self, place: Place) -> FabricError:
        return not_found(place)

    def gone(self, record: SessionRecord) -> FabricError:
        return gone(record)

    async def load(self, place: Place, *, fresh: bool = False) -> SessionRecord:
        """Return a session's record. Raises `SessionNotFound`, `SessionGone`."""
        found = await self.find(place, fresh=fresh)
        if found is None:
            raise self.not_found(place)
        return await self._usable(*found)

    def usable_at_hand(self, place: Place) -> SessionRecord | None:
        """Return a record that is at hand, where it can be used as it is; None: `load` and `ensure` have to look."""
        known = self._kept.get(place)
        if known is None or known[0].state == "deleted" or (known[0].sealed is not None and self._keys is None):
            return None
        last = known[0].segments[-1]
        if self._broker.log.home_at_hand(place) != (last.stream, last.epoch):
            return None
        self._kept.move_to_end(place)
        return known[0]

    async def _usable(self, record: SessionRecord, revision: int) -> SessionRecord:
        if record.state == "deleted":
            raise self.gone(record)
        if record.sealed is not None and self._keys is None:
            raise key_missing(record.tenant, record.sealed.key)  # what it wrote would lie open among what is sealed
        last = record.segments[-1]
        known = self._broker.log.home_at_hand(record.place)
        if known == (last.stream, last.epoch):
            return record
        home = await self._broker.log.home(record.place)
        if home != (last.stream, last.epoch):
            # The stream was made anew: what follows is another stretch, so that no offset is taken for another's.
            log.warning("stream_was_made_anew", session=record.session, stream=home.stream)
            return await self.change(record.place, lambda r: _continued(r, home))
        return record

    async def ensure(
        self, place: Place, labels: Mapping[str, str] | None = None, participants: Sequence[str] = ()
    ) -> tuple[SessionRecord, bool]:
        """Return the record, making it if there is none; the second is whether it was made now."""
        found = await self.find(place)
        if found is not None:
            return await self._usable(*found), False
        segment = await self.first_segment(place)
        record = SessionRecord(
            tenant=place.tenant,
            session=place.session,
            created=segment.id // 1000,
            labels=dict(labels or {}),
            segments=(segment,),
            participants=tuple(dict.fromkeys(participants)),
        )
        return await self.add(record)

    async def add(self, record: SessionRecord) -> tuple[SessionRecord, bool]:
        """Write a record if there is none of its name; else return the one that is there. Raises `KeyMissing` where
        the tenant's are sealed and this process has no key of its."""
        under = self._keys.current(record.tenant) if self._keys is not None else None
        if under is not None:
            record = record.model_copy(update={"sealed": new_sealed(under)})
        else:
            await self.check_open(record.tenant)
        try:
            revision = await self._bucket.swap(record.place.key(), spelled(record), revision=0)
        except Conflict:
            return await self.load(record.place, fresh=True), False
        self._keep(record, revision)
        return record, True

    async def check_open(self, tenant: str) -> None:
        """Raise `KeyMissing` where what a tenant makes has to be sealed."""

        async def newest(tenant: str) -> list[Sealed | None]:
            return [None if one.record is None else one.record.sealed for one in await self.latest(tenant, LOOKED_AT)]

        await self._sealing.check(tenant, newest)

    async def change(self, place: Place, edit: Callable[[SessionRecord], SessionRecord]) -> SessionRecord:
        """Change a record by compare-and-set, as often as others are first; return it as written."""
        for _ in range(_TRIES):
            found = await self.find(place, fresh=True)
            if found is None:
                raise self.not_found(place)
            record, revision = found
            new = edit(record)
            if new == record:
                return record
            try:
                revision = await self._bucket.swap(place.key(), spelled(new), revision=revision)
            except Conflict:
                continue
            self._keep(new, revision)
            return new
        raise Conflict(
            f"The record of session {place.session!r} changed {_TRIES} times under this edit.", revision=None
        )

    async def remove(self, place: Place, *, revision: int | None = None) -> None:
        """Remove a record; `revision`: only if it is the newest one, else raises `Conflict`."""
        await self._bucket.delete(place.key(), revision=revision)
        self._kept.pop(place, None)

    async def latest(self, tenant: str | None, limit: int, before: int | None = None) -> list[Listed]:
        """Return the `limit` records of a tenant (None: of all) that changed last, below a revision; those of deleted
        sessions too. Fewer are the end of it."""
        prefix = "" if tenant is None else Place(tenant, "").key().rstrip(".")
        found = await self._bucket.latest(prefix, limit=limit, before=before)
        return [Listed(parse(entry.value or b"", self.model), entry.revision, ts) for entry, ts in found]

    async def all(self) -> list[SessionRecord]:
        """Return every record there is, of all tenants."""
        records = [parse(e.value, self.model) for e in await self._bucket.entries() if e.value is not None]
        return [record for record in records if record is not None]

    async def of_tenant(self, tenant: str) -> list[SessionRecord]:
        """Return every one of a tenant that is not deleted, newest first: where there are few."""
        entries = await self._bucket.entries(Place(tenant, "").key().rstrip("."))
        records = [parse(entry.value, self.model) for entry in entries if entry.value is not None]
        kept = [r for r in records if r is not None and r.state != "deleted"]
        return sorted(kept, key=lambda r: (r.created, r.session), reverse=True)


def _continued(record: SessionRecord, home: Home) -> SessionRecord:
    last = record.segments[-1]
    if (last.stream, last.epoch) == home:
        return record
    id = next_segment_id(time.time_ns() // 1000, last.id)
    new = Segment(id, home.stream, home.epoch, record.tenant, record.session)
    # Nothing of the old stream is left to read.
    return record.model_copy(update={"segments": (new,), "floor": (last.id, 10**16 - 1)})


def spelled(record: SessionRecord) -> bytes:
    """Spell a record as its bucket keeps it. What came with later versions of this format is left out where it says
    nothing: an earlier one could not read it."""
    silent: dict[str, bool | dict[str, bool]] = {"policy": {"strict": not record.policy.strict}}
    silent["forgetting"] = record.forgetting is None
    return record.model_dump_json(exclude=silent).encode()


def parse(value: bytes, model: type[SessionRecord] = SessionRecord) -> SessionRecord | None:
    """Read a record as its bucket keeps it; None for what cannot be read."""
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        log.error("record_unreadable", errors=error.error_count())
        return None


def not_found(place: Place) -> SessionNotFound:
    return SessionNotFound(
        f"There is no session {place.session!r}.", hint="The first append makes it.", session=place.session
    )


def gone(record: SessionRecord) -> SessionGone:
    return SessionGone(
        f"Session {record.session!r} was deleted.",
        hint="Its name is free again when its last fork is gone." if record.forks else "",
        session=record.session,
    )


def is_gone(record: SessionRecord | None) -> FabricError | None:
    """Say with which error a follower ends when its session's record has become this."""
    if record is None or record.state == "deleted":
        return SessionGone("The session was deleted.", hint="")
    return None
