"""Removing what agents have saved of a session in which something is redacted: all of its checkpoints.

They are bytes of the agents' own, sealed maybe, so that nobody can say which of them has the words. While a run is
under way they stay: it may wait for people and go on from them, and has what it knows in memory. The session's record
says so meanwhile (`forgetting`), and they go when no run is left: before the next one begins, or by the trimmer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from typing import Final, NamedTuple

from session_fabric.ports import Broker, Entry
from session_fabric.records import Directory, SessionRecord
from session_fabric.sealed import as_stored
from session_fabric.tenants import Tenants
from session_fabric.under_way import runs_under_way
from session_fabric.words.errors import Conflict, Forbidden, SessionNotFound
from session_fabric.words.logs import log
from session_fabric.words.subjects import Place

BUCKET: Final = "sf-checkpoints"
DOCUMENTS: Final = "sf-state"
_AT_ONCE: Final = 32
_ROUNDS: Final = 5


class Forgotten(NamedTuple):
    """How many parts of checkpoints were removed, how many are left, and the runs under way that they are left for."""

    removed: int = 0
    left: int = 0
    waits_for: tuple[str, ...] = ()


async def saved(broker: Broker, place: Place) -> list[Entry]:
    """Return the parts of a session's checkpoints, as they are stored."""
    return await as_stored(broker).bucket(BUCKET).entries(place.key())


async def documents(broker: Broker, place: Place) -> int:
    """Count the shared documents of a session, those too that were deleted and have a history."""
    return len(await as_stored(broker).bucket(DOCUMENTS).entries(place.key()))


async def forget(broker: Broker, directory: Directory, place: Place) -> Forgotten:
    """Remove a session's checkpoints, or note down that they are to be removed once no run is under way.

    Cut off, it may have been noted down or not: again. Raises `BrokerUnavailable`.
    """
    found = await directory.find(place, fresh=True)
    if found is None or found[0].state == "deleted":
        return Forgotten()
    there = await saved(broker, place)
    if not there and not await runs_under_way(broker, found[0]):
        return Forgotten()  # a run that begins from here on is told what is left
    try:
        record = await directory.change(place, _noted)
    except SessionNotFound:
        return Forgotten()
    # Counted before it is noted down: from there on others may remove it.
    return await forget_noted(broker, directory, record, {entry.key for entry in there})


async def forget_noted(
    broker: Broker, directory: Directory, record: SessionRecord, before: Set[str] = frozenset()
) -> Forgotten:
    """Remove what a session's record says is to be forgotten, unless a run is under way or a hold stands.

    `before`: keys that were there, and are counted too. Cut off, or with the broker away, it stays noted down. Raises
    `BrokerUnavailable`.
    """
    seen, held = set(before), bool(record.holds or (await Tenants(broker).rules(record.tenant)).holds)
    for _ in range(_ROUNDS):
        # In this order: what a run that begins from here on writes is not among them.
        there = await saved(broker, record.place)
        running = await runs_under_way(broker, record)
        if running or held or not there:
            break
        seen |= {entry.key for entry in there}
        await _remove(broker, there)
    removed = len(seen - {entry.key for entry in there})
    if removed:
        log.info("checkpoints_removed", session=record.session, parts=removed)
    if there or running:
        log.info("checkpoints_wait", session=record.session, parts=len(there), runs=len(running))
    else:
        await _settled(directory, record)
    return Forgotten(removed, len(there), running)


async def _remove(broker: Broker, there: Sequence[Entry]) -> None:
    """Remove entries with their history, those alone that are still as they were found."""
    bucket = as_stored(broker).bucket(BUCKET)

    async def remove(entry: Entry) -> None:
        with suppress(Conflict):  # written anew meanwhile, and found again; or another one has removed it
            await bucket.delete(entry.key, revision=entry.revision)

    for start in range(0, len(there), _AT_ONCE):
        await asyncio.gather(*(remove(entry) for entry in there[start : start + _AT_ONCE]))


def _noted(record: SessionRecord) -> SessionRecord:
    if record.state == "deleted":
        return record
    # Later than what was noted before, whatever the clocks say: who has done that is not to take this for it.
    now_ms = max(time.time_ns() // 1_000_000, (record.forgetting or 0) + 1)
    return record.model_copy(update={"forgetting": now_ms})


async def _settled(directory: Directory, done: SessionRecord) -> None:
    def without(record: SessionRecord) -> SessionRecord:
        # Of a redaction that came meanwhile it is not known.
        return record.model_copy(update={"forgetting": None}) if record.forgetting == done.forgetting else record

    # An agent of its own name may remove what agents have saved, and leaves the rest to the trimmer.
    with suppress(SessionNotFound, Forbidden):
        await directory.change(done.place, without)
