"""A tenant as a directory of files that can be verified without the fabric, and made a tenant's sessions again.

What is in the directory: `backup_files`. One without its last file is a backup that was cut off, and goes on where it
was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from session_fabric import backup_files as files
from session_fabric.backup_files import FORMS, SESSIONS, STREAMS, Form, Whole
from session_fabric.fabric import Fabric
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import parse_revocation
from session_fabric.rules.wakes import Wake
from session_fabric.streams import archive, subscribed
from session_fabric.streams.records import StreamRecord, place_of
from session_fabric.words.errors import (
    SessionExists,
    SessionGone,
    SessionHeld,
    SessionNotFound,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from session_fabric.words.events import PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, SESSION_CREATED
from session_fabric.words.names import escape, unescape

_AT_ONCE: Final = 4
_PAGE: Final = 500
# What is in a session that was opened and nothing else. Who has it open may make it again as it is being removed.
_BEGINNING: Final = frozenset({SESSION_CREATED, PRESENCE_JOINED, PRESENCE_UPDATED, PRESENCE_LEFT})
_TRIES: Final = 5
# What a tenant has beside its sessions and streams: how long it keeps them and what is held; inputs that were given up;
# what is revoked. Leases, presence and tickets are of processes that will not be there.
_BESIDE: Final = ("sf-tenants", "sf-dead", "sf-revoked")

Done = Callable[[str], None]


class Backup(NamedTuple):
    """What a backup holds: sessions with their events, durable streams with their entries and who is woken when they
    grow. `new`: how many of the sessions and streams were written or made by this call. `unreadable`: subscriptions
    that cannot be read, as of a later version: their bytes are in the backup, and that version restores them."""

    tenant: str
    sessions: int
    events: int
    new: int
    streams: int = 0
    entries: int = 0
    subscriptions: int = 0
    unreadable: tuple[str, ...] = ()


async def create(fabric: Fabric, directory: Path, done: Done = lambda _: None) -> Backup:
    """Write the tenant's sessions, durable streams and subscriptions on these, and what it has beside them, into a
    directory; `done` is called with each name.

    Each session and stream is as of a moment of its own, while everything goes on. A backup that was cut off goes on:
    what is there and whole is not written again. Raises `InvalidRequest` (it is a finished one, or another tenant's, or
    one is being written there), `Forbidden`, `KeyMissing`, `BrokerUnavailable`.
    """
    with files.own(directory):
        return await _created(fabric, directory, done)


async def _created(fabric: Fabric, directory: Path, done: Done) -> Backup:
    await asyncio.to_thread(files.begin, directory, fabric.tenant)
    several, new = asyncio.Semaphore(_AT_ONCE), 0

    async def one(form: Form, name: str, created: int) -> Whole | None:
        nonlocal new
        async with several:
            found = await asyncio.to_thread(form.whole, directory, name, created)
            if found is None:
                try:
                    await files.write(form.file(directory, name), await _exported(fabric, form, name))
                except (SessionGone, SessionNotFound, StreamGone, StreamNotFound):
                    return None  # deleted since it was listed
                found, new = await asyncio.to_thread(form.verified, directory, name), new + 1
        done(name)
        return found

    written = {}
    for form, names in ((SESSIONS, _sessions(fabric)), (STREAMS, _streams(fabric))):
        # A session whose record changes meanwhile is listed again.
        listed = {name: created async for name, created in names}
        saved = await asyncio.gather(*(one(form, name, created) for name, created in listed.items()))
        written[form.type] = [each for each in saved if each is not None]
    kept = await subscribed.subscriptions_of(fabric.broker, fabric.tenant)
    beside = await _beside(fabric)
    await asyncio.to_thread(files.finish, directory, fabric.tenant, fabric.participant, written, *kept, beside)
    sessions, streams = written[SESSIONS.type], written[STREAMS.type]
    events, entries = (sum(each.size for each in of) for of in (sessions, streams))
    unreadable = _subscriptions([], kept.unread, fabric.tenant)[1]
    counts = (len(sessions), events, new, len(streams), entries, len(kept.subscriptions))
    return Backup(fabric.tenant, *counts, unreadable)


def verify(directory: Path, done: Done = lambda _: None) -> Backup:
    """Check every file of a backup. Raises `Corrupt`, which names the file and the first line that is wrong."""
    listed = files.listed(directory)
    for form in FORMS:
        for one in listed.of(form):
            files.check(directory, form, one)
            done(one[form.type])
    tenant = listed.manifest["tenant"]
    wakes, unreadable = _subscriptions(listed.subscriptions, listed.unread, tenant)
    sessions, streams = len(listed.of(SESSIONS)), len(listed.of(STREAMS))
    counts = (sessions, listed.count(SESSIONS), 0, streams, listed.count(STREAMS), len(wakes))
    return Backup(tenant, *counts, unreadable)


async def restore(
    fabric: Fabric, directory: Path, done: Done = lambda _: None, *, others: Callable[[str], None] | None = None
) -> Backup:
    """Make a backup's sessions, durable streams and subscriptions again, in the tenant of `fabric`, with what it had
    beside them.

    Everything is verified before anything is written. Again it changes nothing, and goes on where it was cut off. A
    stream whose time has passed since is left out. A session of that name in which nothing was said gives way: who
    comes back while a broker is empty makes it. Raises `Corrupt`, `SessionExists` and `StreamExists` for another one
    that is not from this backup; with `others` that one stays, `others` hears of it, and all else is restored.
    `Forbidden`, `BrokerUnavailable` (try again).
    """
    found = await asyncio.to_thread(verify, directory)
    listed = await asyncio.to_thread(files.listed, directory)
    several, new = asyncio.Semaphore(_AT_ONCE), 0

    async def one(name: str, made: Callable[[], Awaitable[bool]], left: set[str]) -> None:
        nonlocal new
        async with several:
            try:
                made_now = await made()
                new += made_now
            except (SessionExists, StreamExists):
                if others is None:
                    raise
                others(name)
                left.add(name)
        done(name)

    left_alone: dict[str, set[str]] = {form.type: set() for form in FORMS}
    for form in FORMS:
        names, left = [told[form.type] for told in listed.of(form)], left_alone[form.type]
        await asyncio.gather(*(one(name, partial(_restored, fabric, form, directory, name), left) for name in names))
    await _subscribe(fabric, directory, listed, left_alone[STREAMS.type])
    for kept in listed.beside:
        if not (kept["bucket"] == "sf-dead" and unescape(kept["key"].split(".")[0]) in left_alone[SESSIONS.type]):
            await _put_back(fabric, kept)
    return found._replace(tenant=fabric.tenant, new=new)


# --- sessions and streams -----------------------------------------------------------------------------


async def _sessions(fabric: Fabric) -> AsyncGenerator[tuple[str, int], None]:
    cursor = None
    while True:
        page = await fabric.sessions(limit=_PAGE, cursor=cursor)
        for record in page.records:
            yield record.session, record.created
        if (cursor := page.next) is None:
            return


async def _streams(fabric: Fabric) -> AsyncGenerator[tuple[str, int], None]:
    streams = await fabric.durable_streams()
    for record in await streams.directory.of_tenant(fabric.tenant):
        if isinstance(record, StreamRecord):
            yield record.path, record.created


async def _exported(fabric: Fabric, form: Form, name: str) -> AsyncGenerator[bytes, None]:
    if form is SESSIONS:
        return fabric.session(name).export(cursors=True)
    return archive.export(await fabric.durable_streams(), place_of(fabric.tenant, name), fabric.participant)


async def _restored(fabric: Fabric, form: Form, directory: Path, name: str) -> bool:
    """Make a session or stream again; False where it is there already."""

    def lines() -> Iterable[bytes]:
        return files.lines_of(form.file(directory, name))

    if form is SESSIONS:
        for _ in range(_TRIES):
            try:
                return (await fabric.import_session(name, lines))[1]
            except SessionExists:
                with suppress(SessionNotFound, SessionGone):  # somebody else was first
                    if not await _begun_alone(fabric, name):
                        raise
                    await _give_way(fabric, name)
        raise SessionExists(
            f"The session {name!r} is made again and again.", hint="Stop what makes it, a gateway say, and try again."
        )
    return await archive.restore(
        await fabric.durable_streams(), place_of(fabric.tenant, name), lines, fabric.participant
    )


def _subscriptions(readable: Iterable[Any], unread: Iterable[Any], tenant: str) -> tuple[list[Wake], tuple[str, ...]]:
    """Read a backup's subscriptions as a tenant's; the second names those that cannot be read."""
    wakes, unreadable = [subscribed.parse_subscription(data, tenant) for data in readable], list[str]()
    for data in unread:
        found = subscribed.parse_unread(data, tenant)
        if isinstance(found, Wake):
            wakes.append(found)
        else:
            unreadable.append(found)
    return wakes, tuple(unreadable)


async def _give_way(fabric: Fabric, name: str) -> None:
    """Remove a session in which nothing was said. Raises `SessionExists` where it is held."""
    try:
        await fabric.session(name).delete("A backup has it: nothing was said in it.")
    except SessionHeld as error:
        raise SessionExists(
            f"There is a session {name!r} already, and it is held: {error.message}",
            hint="Release the hold, and restore again.",
        ) from error


async def _begun_alone(fabric: Fabric, name: str) -> bool:
    """Say whether a session was made, and nothing was said or kept in it since."""
    session = fabric.session(name)
    if (await session.record(create=False, fresh=True)).imported is not None or await session.documents():
        return False
    async with aclosing(session.read("start")) as batches:
        async for records in batches:
            if any(record.event().type not in _BEGINNING for record in records):
                return False
    return True


async def _subscribe(fabric: Fabric, directory: Path, listed: files.Listed, left_alone: set[str]) -> None:
    """Make the subscriptions on streams again, but for those there are. On streams that were left alone they begin at
    the beginning: how far they were is of what the backup has."""
    streams = await fabric.durable_streams()
    there = {told["stream"] for told in listed.of(STREAMS)} - left_alone

    def file_of(path: str) -> Iterable[bytes] | None:
        return files.lines_of(STREAMS.file(directory, path)) if path in there else None

    wakes, _ = _subscriptions(listed.subscriptions, listed.unread, fabric.tenant)
    await subscribed.restore(streams, fabric.tenant, wakes, file_of)


# --- what is beside them ------------------------------------------------------------------------------


async def _beside(fabric: Fabric) -> list[dict[str, Any]]:
    lines = []
    for name in _BESIDE:
        bucket = fabric.broker.bucket(name)
        whole = await bucket.get(escape(fabric.tenant))  # what is said of the tenant as such
        for entry in (whole, *await bucket.entries(escape(fabric.tenant))):
            if entry is not None and entry.value is not None:
                key, value = entry.key.partition(".")[2], orjson.Fragment(entry.value)
                lines.append({"type": "kept", "bucket": name, "key": key, "value": value})
    return lines


async def _put_back(fabric: Fabric, kept: Mapping[str, Any]) -> None:
    key = ".".join(filter(None, (escape(fabric.tenant), kept["key"])))
    value = kept["value"]
    if kept["bucket"] == "sf-dead":
        value = {**value, "input": None}  # its offset was in another log
    value = orjson.dumps(value)
    bucket = fabric.broker.bucket(kept["bucket"])
    if kept["bucket"] == "sf-revoked":
        revocation, now_ms = parse_revocation(key, value), time.time_ns() // 1_000_000
        if revocation is not None and revocation.until_ms > now_ms:
            await revoke(fabric.broker, revocation, by=fabric.participant, now_ms=now_ms)
    elif (there := await bucket.get(key)) is None or there.value is None:
        await bucket.put(key, value)
