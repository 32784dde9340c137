"""Under which keys sessions and durable streams are sealed, and wrapping theirs anew under their tenants' current ones.

What is said stays as it is stored: each session's own key goes on, and who has it at hand notices nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple

from session_fabric import audit
from session_fabric.keyring import Keyring, Sealed, cipher_of, wrapped_anew
from session_fabric.ports import Broker
from session_fabric.records import Directory, SessionRecord
from session_fabric.streams.records import StreamDirectory
from session_fabric.words.errors import FabricError, KeyMissing
from session_fabric.words.subjects import Place

_PAGE: Final = 500
# Records that are written at once: they keep about the order in which they had changed.
_TOGETHER: Final = 16

# Of a session's key: wrapped under the tenant's current key; under an older one that is at hand; under one that is not.
# `open`: it has none, though its tenant has a key.
Standing = Literal["current", "older", "missing", "open"]
Progress = Callable[[int], None]


class Under(NamedTuple):
    """How many sessions and durable streams, deleted ones with forks too, are wrapped under a key of a tenant's;
    `key` is empty for those that are not sealed."""

    tenant: str
    key: str
    standing: Standing
    sessions: int


class _Wrapped(NamedTuple):
    place: Place
    under: str
    standing: Standing


async def wrapped_under(broker: Broker, keys: Keyring) -> list[Under]:
    """Return under which keys everything of all tenants that have keys is. Raises `BrokerUnavailable`."""
    counts: dict[tuple[str, str, Standing], int] = {}
    for directory in _directories(broker):
        for one in await _all(directory, keys):
            of = (one.place.tenant, one.under, one.standing)
            counts[of] = counts.get(of, 0) + 1
    return [Under(*of, count) for of, count in sorted(counts.items())]


async def rewrap(broker: Broker, keys: Keyring, by: str, progress: Progress = lambda _: None) -> int:
    """Wrap everything anew that is under an older key which is at hand; return how many were.

    First each tenant's audit has by whom. Each by compare-and-set: whoever is in the middle goes on, and what was done
    stays done when this is cut short. What others make under an older key meanwhile is left. `progress` hears of so
    many more. Raises `BrokerUnavailable`, `Conflict`.
    """
    done, found = 0, [(directory, await _older(directory, keys)) for directory in _directories(broker)]
    await _note(broker, keys, by, [one for _, older in found for one in older])
    for directory, older in found:
        for at in range(0, len(older), _TOGETHER):
            wrapped = [_rewrap(directory, keys, one.place) for one in older[at : at + _TOGETHER]]
            written = sum(await asyncio.gather(*wrapped))
            done += written
            progress(written)
    return done


async def _older(directory: Directory, keys: Keyring) -> list[_Wrapped]:
    """Return what is under an older key, those first that changed first: so lists stay in their order."""
    return [one for one in await _all(directory, keys) if one.standing == "older"][::-1]


async def _note(broker: Broker, keys: Keyring, by: str, older: Sequence[_Wrapped]) -> None:
    under: dict[str, Counter[str]] = {}
    for one in older:
        under.setdefault(one.place.tenant, Counter())[one.under] += 1
    for tenant, counts in under.items():
        current = keys.current(tenant)
        if current is not None:
            await audit.note(broker, tenant, None, by, "tenant.rewrapped", key=current.id, older=counts)


async def _rewrap(directory: Directory, keys: Keyring, place: Place) -> bool:
    wrote = False

    def edit(record: SessionRecord) -> SessionRecord:
        nonlocal wrote
        sealed = record.sealed
        wrote = sealed is not None and _standing(record.tenant, sealed, keys) == "older"
        current = keys.current(record.tenant)
        if not wrote or sealed is None or current is None:
            return record
        anew = wrapped_anew(sealed, keys.named(record.tenant, sealed.key), current)
        return record.model_copy(update={"sealed": anew})

    try:
        await directory.change(place, edit)
    except FabricError as error:
        if error.code in ("session_not_found", "stream_not_found"):
            return False  # it was removed meanwhile
        raise
    return wrote


def _directories(broker: Broker) -> Sequence[Directory]:
    return Directory(broker), StreamDirectory(broker)


async def _all(directory: Directory, keys: Keyring) -> list[_Wrapped]:
    """Return everything that is sealed, or should be, those first that changed last.

    What changes meanwhile is looked at again.
    """
    found: dict[Place, _Wrapped] = {}
    seen, newest = 0, None
    while newest is None or newest > seen:
        seen, newest = newest or 0, 0
        async with aclosing(_pages(directory, seen)) as pages:
            async for record, revision in pages:
                newest = max(newest, revision)
                if record is not None and record.sealed is not None:
                    standing = _standing(record.tenant, record.sealed, keys)
                    found[record.place] = _Wrapped(record.place, record.sealed.key, standing)
                elif record is not None and keys.current(record.tenant) is not None:
                    found[record.place] = _Wrapped(record.place, "", "open")
    return list(found.values())


async def _pages(directory: Directory, after: int) -> AsyncGenerator[tuple[SessionRecord | None, int], None]:
    """Yield records with their revisions, newest first, down to a revision."""
    before = None
    while page := await directory.latest(None, _PAGE, before):
        for one in page:
            if one.revision <= after:
                return
            yield one.record, one.revision
        before = page[-1].revision


def _standing(tenant: str, sealed: Sealed, keys: Keyring) -> Standing:
    try:
        opens = cipher_of(sealed, keys.named(tenant, sealed.key)) is not None
    except KeyMissing:
        opens = False
    current = keys.current(tenant)
    if not opens or current is None:
        return "missing"
    return "current" if sealed.key == current.id else "older"
