"""Durable subscriptions held for those who ask; what they have in hand goes back when they are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from itertools import count
from typing import Any, Final, NamedTuple

from session_fabric.ports import Broker, Delivery, Durable
from session_fabric.relay.rights import Rights
from session_fabric.spelling import read_place, read_wanted
from session_fabric.words.errors import (
    BrokerUnavailable,
    FabricError,
    InvalidRequest,
    LimitExceeded,
    RateLimited,
    Unavailable,
)
from session_fabric.words.subjects import Place

# One that is not fetched from for so long is let go: an agent asks every five seconds at least.
IDLE_S: Final = 30.0
_MOST_OF_ONE: Final = 64
# What a subscription leaves at the broker stays when it is closed: so many different ones may be opened in an hour.
_MOST_NAMES: Final = 256
_NAMES_S: Final = 3600.0


class _Of(NamedTuple):
    """What a subscription is on."""

    tenant: str
    name: str
    place: Place | None


class _Held:
    def __init__(self, of: _Of, durable: Durable) -> None:
        self.of = of
        self.durable = durable
        self.deliveries: dict[int, Delivery] = {}
        self.numbers = count(1)
        self.used = time.monotonic()
        self.fetching: asyncio.Task[list[tuple[int, Delivery]]] | None = None


class Durables:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._held: dict[tuple[str, str], _Held] = {}
        self._names: dict[str, dict[tuple[str, str], float]] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for key in list(self._held):
            await self._let_go(key)

    async def _make(self, rights: Rights, head: Mapping[str, Any]) -> tuple[_Of, Durable]:
        match head:
            case {
                "tenant": str(tenant),
                "name": str(name),
                "place": place,
                "wanted": wanted,
                "ack_wait_s": float() | int() as ack_wait_s,
                "max_deliver": int(max_deliver),
                "start": "start" | "tail" as start,
            }:
                of = _Of(tenant, name, None if place is None else read_place(place))
                rights.work(*of)
                return of, await self._broker.durable(
                    tenant,
                    name,
                    place=of.place,
                    wanted=read_wanted(wanted),
                    ack_wait_s=min(max(float(ack_wait_s), 0.1), 3600.0),
                    max_deliver=max_deliver,
                    start=str(start),
                )
        raise InvalidRequest("This is no durable subscription.", hint="Use the SDK.")

    async def open(self, rights: Rights, id: str, head: Mapping[str, Any]) -> None:
        key = (rights.owner, id)
        if key in self._held:
            return
        if sum(owner == rights.owner for owner, _ in self._held) >= _MOST_OF_ONE:
            raise RateLimited(f"{_MOST_OF_ONE} durable subscriptions are open.", hint="Close one.", limit=_MOST_OF_ONE)
        self._named(rights.owner, str(head.get("name")), str(head.get("place")))
        self._held[key] = _Held(*await self._make(rights, head))
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep(), name="durables", context=Context())

    def _named(self, owner: str, name: str, place: str) -> None:
        """Count a name under which one subscribes. Raises `LimitExceeded`."""
        now = time.monotonic()
        names = {one: at for one, at in self._names.get(owner, {}).items() if at > now - _NAMES_S}
        if (name, place) not in names and len(names) >= _MOST_NAMES:
            raise LimitExceeded(
                f"{len(names)} durable subscriptions were opened within an hour; {_MOST_NAMES} is the most.",
                hint="Subscribe under fewer names.",
                limit=_MOST_NAMES,
            )
        self._names[owner] = {**names, (name, place): now}

    async def fetch(self, rights: Rights, id: str, limit: int, timeout_s: float) -> list[tuple[int, Delivery]]:
        """Return what there is to do, each under a number by which it is settled; nothing that is not granted by then.

        What it is on is what was opened, whatever else is said of it: another token may have opened it.
        """
        held = self._of(rights, id)
        rights.work(*held.of)
        if held.fetching is not None:
            raise InvalidRequest("It is being fetched from.", hint="One at a time.")
        held.used = time.monotonic()
        held.fetching = asyncio.create_task(self._fetch(held, limit, timeout_s))
        try:
            found = await held.fetching
        except asyncio.CancelledError:
            if held.fetching.cancelled() and not _cancelled_myself():
                return []  # one who rests has taken back what was asked for
            held.fetching.cancel()
            raise
        finally:
            held.fetching = None
        try:
            await self._still(rights, held)
        except FabricError:
            for _, delivery in found:
                with suppress(FabricError):
                    await delivery.nak()
            await self._let_go((rights.owner, id))  # what comes goes to others
            raise
        return found

    async def _still(self, rights: Rights, held: _Held) -> None:
        """Look again whether one may, having waited. While that cannot be said, it is as it was."""
        with suppress(Unavailable):
            (await rights.renew()).work(*held.of)

    async def _fetch(self, held: _Held, limit: int, timeout_s: float) -> list[tuple[int, Delivery]]:
        found = []
        for delivery in await held.durable.fetch(limit, timeout_s):
            number = next(held.numbers)
            held.deliveries[number] = delivery
            found.append((number, delivery))
        return found

    def _of(self, rights: Rights, id: str) -> _Held:
        held = self._held.get((rights.owner, id))
        if held is None:
            raise BrokerUnavailable("The subscription is not held here.", hint="Open it again.")
        return held

    async def settle(self, rights: Rights, id: str, number: int, how: str, delay_s: float) -> None:
        held = self._of(rights, id)
        delivery = held.deliveries.get(number)
        if delivery is None:
            raise BrokerUnavailable("This is not in hand any more.", hint="It comes again.")
        if how == "extend":
            await delivery.extend()
            return
        await (delivery.ack() if how == "ack" else delivery.nak(delay_s))
        held.deliveries.pop(number, None)

    async def rest(self, rights: Rights, id: str) -> None:
        held = self._of(rights, id)
        if held.fetching is not None:
            held.fetching.cancel()
        await held.durable.rest()

    async def leave(self, rights: Rights, id: str) -> None:
        await self._let_go((rights.owner, id))

    async def lag(self, rights: Rights, head: Mapping[str, Any]) -> tuple[int, int]:
        _, durable = await self._make(rights, head)
        try:
            return await durable.lag()
        finally:
            await durable.close()

    async def forget(self, rights: Rights, head: Mapping[str, Any]) -> None:
        _, durable = await self._make(rights, head)
        try:
            await durable.delete()
        finally:
            await durable.close()

    async def _let_go(self, key: tuple[str, str]) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            if held.fetching is not None:
                held.fetching.cancel()
            with suppress(FabricError):
                await held.durable.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S / 3)
            before = time.monotonic() - _NAMES_S
            self._names = {owner: kept for owner, kept in self._names.items() if max(kept.values()) > before}
            for key, held in list(self._held.items()):
                if held.fetching is None and time.monotonic() - held.used > IDLE_S:
                    await self._let_go(key)


def _cancelled_myself() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
