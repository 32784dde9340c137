"""A tenant as a directory of files that can be verified without the fabric, and made a tenant's sessions again.

`sessions/NAME.jsonl` is the export of one session each. `tenant.jsonl`, a chain as they are, is written last: it names
them all with their last hashes, and holds what the tenant has beside its sessions. A directory without it is a backup
that was cut off, and goes on where it was.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from session_fabric.fabric import Fabric
from session_fabric.importing import Verified
from session_fabric.importing import verify as verify_file
from session_fabric.revocations import revoke
from session_fabric.rules.chains import FORMAT, Chain, Checked
from session_fabric.rules.revocations import parse_revocation
from session_fabric.words.errors import Corrupt, InvalidRequest, SessionGone, SessionNotFound
from session_fabric.words.names import check_session, escape
from session_fabric.words.version import VERSION

TENANT: Final = "tenant.jsonl"
_SESSIONS: Final = "sessions"
_AT_ONCE: Final = 4
_PAGE: Final = 500
# What a tenant has beside its sessions: how long it keeps them and what is held; inputs that were given up; what is
# revoked. Leases, presence and tickets are of processes that will not be there.
_BESIDE: Final = ("sf-tenants", "sf-dead", "sf-revoked")

Done = Callable[[str], None]


class Backup(NamedTuple):
    """What a backup holds. `new`: how many of the sessions were written or made by this call."""

    tenant: str
    sessions: int
    events: int
    new: int


async def create(fabric: Fabric, directory: Path, done: Done = lambda _: None) -> Backup:
    """Write the tenant's sessions and what it has beside them into a directory; `done` is called with each name.

    Each session is as of a moment of its own, while everything goes on. A backup that was cut off goes on: what is
    there and whole is not written again. Raises `InvalidRequest` (it is a finished one), `Forbidden`, `KeyMissing`,
    `BrokerUnavailable`.
    """
    if (directory / TENANT).exists():
        raise InvalidRequest(
            f"{directory} holds a finished backup.", hint="Name another directory: a backup is not written over."
        )
    (directory / _SESSIONS).mkdir(parents=True, exist_ok=True)
    several, new = asyncio.Semaphore(_AT_ONCE), 0

    async def one(name: str) -> tuple[str, Verified] | None:
        nonlocal new
        file = _file(directory, name)
        async with several:
            found = await asyncio.to_thread(_whole, file)
            if found is None:
                try:
                    await _write(fabric, name, file)
                except (SessionGone, SessionNotFound):
                    return None  # deleted since it was listed
                found, new = await asyncio.to_thread(_verified, file), new + 1
        done(name)
        return name, found

    written = [saved for saved in await asyncio.gather(*[one(name) async for name in _names(fabric)]) if saved]
    beside = await _beside(fabric)
    await asyncio.to_thread(_finish, directory, fabric, written, beside)
    return Backup(fabric.tenant, len(written), sum(saved.end["events"] for _, saved in written), new)


def verify(directory: Path, done: Done = lambda _: None) -> Backup:
    """Check every file of a backup. Raises `Corrupt`, which names the file and the first line that is wrong."""
    sessions, manifest, _ = _listed(directory)
    for name, listed in sessions.items():
        file = _file(directory, name)
        found = _verified(file)
        if found.head != listed["chain"]:
            raise Corrupt(
                f"{_SESSIONS}/{file.name} is not the file that belongs to this backup: its last hash is another.",
                hint="Use another copy of it.",
                line=found.lines,
            )
        done(name)
    return Backup(manifest["tenant"], len(sessions), sum(one["events"] for one in sessions.values()), 0)


async def restore(fabric: Fabric, directory: Path, done: Done = lambda _: None) -> Backup:
    """Make a backup's sessions again, in the tenant of `fabric`, with what the tenant had beside them.

    Everything is verified before anything is written. Again it changes nothing, and goes on where it was cut off.
    Raises `Corrupt`, `SessionExists` for a session of that name that is not from this backup, `Forbidden`,
    `BrokerUnavailable` (try again).
    """
    found = await asyncio.to_thread(verify, directory)
    sessions, _, beside = await asyncio.to_thread(_listed, directory)
    several, new = asyncio.Semaphore(_AT_ONCE), 0

    async def one(name: str) -> None:
        nonlocal new
        file = _file(directory, name)
        async with several:
            _, made = await fabric.import_session(name, lambda: _lines(file))
        new += made
        done(name)

    await asyncio.gather(*(one(name) for name in sessions))
    for kept in beside:
        await _put_back(fabric, kept)
    return found._replace(tenant=fabric.tenant, new=new)


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
            await revoke(fabric.broker, revocation, now_ms=now_ms)
    elif (there := await bucket.get(key)) is None or there.value is None:
        await bucket.put(key, value)


# --- files --------------------------------------------------------------------------------------------


async def _names(fabric: Fabric) -> AsyncGenerator[str, None]:
    cursor = None
    while True:
        page = await fabric.sessions(limit=_PAGE, cursor=cursor)
        for record in page.records:
            yield record.session
        if (cursor := page.next) is None:
            return


def _file(directory: Path, name: str) -> Path:
    return directory / _SESSIONS / f"{check_session(name)}.jsonl"


async def _write(fabric: Fabric, name: str, file: Path) -> None:
    part = file.with_suffix(".part")
    with part.open("wb") as out:
        async with aclosing(fabric.session(name).export(cursors=True)) as lines:
            async for line in lines:
                out.write(line)
        await asyncio.to_thread(_settle, out)
    part.rename(file)


def _settle(out: BufferedWriter) -> None:
    out.flush()
    os.fsync(out.fileno())


def _finish(directory: Path, fabric: Fabric, written: list[tuple[str, Verified]], beside: list[dict[str, Any]]) -> None:
    chain, part = Chain(), directory / f"{TENANT}.part"
    with part.open("wb") as out:
        manifest = {"type": "manifest", "format": FORMAT, "kind": "tenant", "fabric": VERSION, "tenant": fabric.tenant}
        out.write(chain.line({**manifest, "at": time.time_ns() // 1_000_000, "by": fabric.participant}))
        for name, saved in sorted(written, key=lambda one: one[0]):
            out.write(
                chain.line({"type": "session", "session": name, "chain": saved.head, "events": saved.end["events"]})
            )
        for kept in beside:
            out.write(chain.line(kept))
        out.write(chain.line({"type": "end", "sessions": len(written), "kept": len(beside)}))
        _settle(out)
    part.rename(directory / TENANT)


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from lines


def _verified(file: Path) -> Verified:
    """Check a session's file. Raises `Corrupt`, which names it."""
    try:
        return verify_file(_lines(file))
    except FileNotFoundError as error:
        raise Corrupt(f"{_SESSIONS}/{file.name} is missing.", hint="Use another copy of the backup.", line=0) from error
    except Corrupt as error:
        raise Corrupt(f"{_SESSIONS}/{file.name}: {error.message}", hint=error.hint, **error.facts) from error


def _whole(file: Path) -> Verified | None:
    try:
        return _verified(file)
    except Corrupt:
        return None  # of a backup that was cut off


def _listed(directory: Path) -> tuple[dict[str, Mapping[str, Any]], Mapping[str, Any], list[Mapping[str, Any]]]:
    """Return what a finished backup says that it has: its sessions by name, its beginning, and what is beside them."""
    file = directory / TENANT
    checked = Checked()
    sessions: dict[str, Mapping[str, Any]] = {}
    beside: list[Mapping[str, Any]] = []
    try:
        for data in checked.read(_lines(file)):
            if data["type"] == "session":
                sessions[data["session"]] = data
            elif data["type"] == "kept":
                beside.append(data)
    except FileNotFoundError as error:
        raise InvalidRequest(
            f"{directory} holds no finished backup: there is no {TENANT}.",
            hint="Create it again with the same directory: it goes on where it was cut off.",
        ) from error
    except Corrupt as error:
        raise Corrupt(f"{TENANT}: {error.message}", hint=error.hint, **error.facts) from error
    if checked.manifest.get("kind") != "tenant":
        raise InvalidRequest(f"{file} is no tenant's backup.", hint="A session's export is imported.")
    return sessions, checked.manifest, beside
