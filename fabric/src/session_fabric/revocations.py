"""Revocations as the bucket `sf-revoked` keeps them, and as every gateway hears of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from session_fabric import audit
from session_fabric.ports import Broker, Entry, Listening
from session_fabric.rules.revocations import Revocation, Revoked, parse_revocation
from session_fabric.words.errors import Conflict, FabricError
from session_fabric.words.logs import log

BUCKET: Final = "sf-revoked"
_TRIES: Final = 20
# What was said while the connection was away, or was lost on its way, is found by looking.
_LOOK_S: Final = 15.0
_AGAIN_S: Final = 1.0


async def revoke(broker: Broker, revocation: Revocation, *, by: str, now_ms: int) -> Revocation:
    """Let a revocation stand; return what stands then, which an earlier one may have made wider.

    Returns when the broker has it; gateways that are connected hear of it at once. The audit has who did it, unless all
    of it stood already. Raises `BrokerUnavailable`.
    """
    bucket, noted = broker.bucket(BUCKET), False
    for attempt in range(_TRIES):
        entry = await bucket.get(revocation.key)
        older = None if entry is None or entry.value is None else parse_revocation(entry.key, entry.value)
        standing = revocation.with_older(older)
        if standing == older:
            return standing
        if not noted:
            await _note(broker, revocation, by)
            noted = True
        ttl_s = max(1, (standing.until_ms - now_ms + 999) // 1000)
        try:
            await bucket.swap(revocation.key, standing.spell(), revision=entry.revision if entry else 0, ttl_s=ttl_s)
        except Conflict:
            if attempt == _TRIES - 1:
                raise
            continue
        return standing
    raise AssertionError("unreachable")


async def _note(broker: Broker, revocation: Revocation, by: str) -> None:
    session = revocation.name if revocation.of == "session" else None
    facts = {"of": revocation.of, "name": revocation.name, "before": revocation.before_ms, "until": revocation.until_ms}
    await audit.note(broker, revocation.tenant, session, by, "token.revoked", **facts)


class Revocations:
    """What is revoked, as far as this process has heard. `async with`: heard of for as long as the block lasts.

    While the broker is away, what was known before goes on to count; what was said meanwhile counts from the moment
    that the connection is back.
    """

    def __init__(self, broker: Broker) -> None:
        self.revoked = Revoked()
        self._broker = broker
        self._bucket = broker.bucket(BUCKET)
        self._sinks: list[Callable[[Revocation], None]] = []
        self._wake = asyncio.Event()
        self._heard: set[str] = set()
        self._watching: Listening | None = None
        self._unhook: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = await self._bucket.watch("", self._changed)
        try:
            await self._look()
        except BaseException:
            await self._watching.close()
            raise
        self._unhook = self._broker.on_connection(lambda connected: self._wake.set() if connected else None)
        self._task = asyncio.create_task(self._keep(), name="revocations")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        assert self._watching is not None
        assert self._unhook is not None
        self._unhook()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._broker.connected:
            await self._watching.close()

    def on_revoked(self, sink: Callable[[Revocation], None]) -> Callable[[], None]:
        """Call `sink` with each one that is new to this process; the returned call ends it. It must not raise."""
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink)

    def _changed(self, entry: Entry) -> None:
        self._heard.add(entry.key)
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.value is None:
            self.revoked.drop(entry.key)
            return
        found = parse_revocation(entry.key, entry.value)
        if found is None:
            log.error("revocation_unreadable", key=entry.key)
            return
        if self.revoked.put(found):
            for sink in list(self._sinks):
                sink(found)

    async def _keep(self) -> None:
        wait_s = _LOOK_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look()
                wait_s = _LOOK_S
            except FabricError as error:
                log.warning("revocations_not_looked_at", code=error.code, detail=error.message)
                wait_s = _AGAIN_S

    async def _look(self) -> None:
        """Read all of them. What is heard of meanwhile is newer than what is read."""
        self._heard.clear()
        entries = await self._bucket.entries()
        for entry in entries:
            if entry.key not in self._heard:
                self._take(entry)
        for key in self.revoked.keys() - {entry.key for entry in entries} - self._heard:
            self.revoked.drop(key)
