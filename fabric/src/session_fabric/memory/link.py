"""A connection, and those who listen through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from session_fabric.words.closing import Closed
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.subjects import Place

T = TypeVar("T")


class Link:
    """One connection: whether it is up, and how often it has come up."""

    def __init__(self) -> None:
        self.generation = 1
        self.closed = False
        self.up = asyncio.Event()
        self.up.set()

    @property
    def connected(self) -> bool:
        return self.up.is_set()

    def check(self) -> None:
        """Raise `BrokerUnavailable` unless the connection is up."""
        if self.closed:
            raise Closed
        if not self.connected:
            raise BrokerUnavailable("The memory broker is away.", hint="Try again with the same id.")

    async def wait(self, timeout_s: float) -> None:
        """Wait until it is up; raise `BrokerUnavailable` when that takes too long."""
        if not self.connected and not self.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.up.wait()
        self.check()


class Interest(Generic[T]):
    """A sink that gets what happens while its connection is up, each on its own turn of the event loop."""

    def __init__(self, link: Link, sink: Callable[[T], None], leave: Callable[[Interest[T]], None]) -> None:
        self._link = link
        self._sink = sink
        self._leave = leave
        self._closed = False

    def post(self, item: T) -> None:
        if self._link.connected:
            asyncio.get_running_loop().call_soon(self._hand, item, self._link.generation)

    def _hand(self, item: T, generation: int) -> None:
        if not self._closed and self._link.connected and generation == self._link.generation:
            self._sink(item)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._leave(self)


class Interests(Generic[T]):
    """Those who listen, by what they listen to."""

    def __init__(self) -> None:
        self._by_place: dict[Place, list[Interest[T]]] = {}

    def add(self, place: Place, link: Link, sink: Callable[[T], None]) -> Interest[T]:
        interest = Interest(link, sink, lambda it: self._remove(place, it))
        self._by_place.setdefault(place, []).append(interest)
        return interest

    def at(self, place: Place) -> tuple[Interest[T], ...]:
        return tuple(self._by_place.get(place, ()))

    def _remove(self, place: Place, interest: Interest[T]) -> None:
        self._by_place[place].remove(interest)
        if not self._by_place[place]:
            del self._by_place[place]
