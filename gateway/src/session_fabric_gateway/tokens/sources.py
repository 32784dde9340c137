"""Where keys come from, again and again: a file that changes, an issuer's JWKS that rotates (`issuer`)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import aiohttp
import structlog
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.endings import end
from session_fabric_gateway.tokens.issuer import Jwks
from session_fabric_gateway.tokens.keys import Key, check_together, read_keys

log = structlog.get_logger()


class KeyFile:
    """Keys in a file; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises `InvalidRequest`."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = self._look()
        self.keys = self._read()

    def _look(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise self._unreadable(error) from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> list[Key]:
        try:
            return read_keys(self._path.read_text(), str(self._path))
        except OSError as error:
            raise self._unreadable(error) from error
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"The keys in {self._path} are not text.") from error

    def _unreadable(self, error: OSError) -> InvalidRequest:
        return InvalidRequest(f"The keys for tokens cannot be read from {self._path}: {error.strerror}.")

    def changed(self) -> bool:
        """Look whether it has changed; read it then. What cannot be read leaves the keys as they are, and is logged."""
        try:
            stamp = self._look()
        except InvalidRequest as error:
            if self._stamp is not None:
                log.error("token_keys_unreadable", detail=error.message)
            self._stamp = None
            return False
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.keys = self._read()
        except InvalidRequest as error:
            log.error("token_keys_unreadable", detail=error.message)
            return False
        return True


class Counts(Protocol):
    """What is told of keys, to those who count."""

    def keys_held(self, own: int, issuer: int, age_s: float) -> None:
        """There are so many of our own and of the issuer's, whose newest answer is so old."""


class KeyKeeper:
    """All keys that count now, kept right for as long as the `async with` lasts.

    `generation` rises when they change.
    """

    def __init__(
        self,
        fixed: Sequence[Key] = (),
        file: KeyFile | None = None,
        jwks: Jwks | None = None,
        *,
        look_s: float = 1.0,
        counts: Counts | None = None,
    ) -> None:
        """Raises `InvalidRequest` for keys that do not go together."""
        self._fixed = tuple(fixed)
        self._file = file
        self._jwks = jwks
        self._look_s = look_s
        self._counts = counts
        self._since = time.monotonic()
        self._http: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self.generation = 0
        self._sinks: list[Callable[[], None]] = []
        self.ring = check_together(self._all())

    async def __aenter__(self) -> Self:
        if self._jwks is not None:
            self._http = aiohttp.ClientSession(headers={"Accept": "application/jwk-set+json, application/json"})
            await self._fetch(self._jwks)
        self._count()
        if self._jwks is not None or self._file is not None:
            self._task = asyncio.create_task(self._keep(), name="token keys")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end([self._task])
        if self._jwks is not None:
            await self._jwks.close()
        if self._http is not None:
            await self._http.close()

    def on_changed(self, sink: Callable[[], None]) -> Callable[[], None]:
        """Call `sink` when the keys have changed; the returned call ends it. It must not raise."""
        self._sinks.append(sink)
        return lambda: self._sinks.remove(sink)

    async def ask_issuer(self) -> float | None:
        """Look for a key that is not known. Return None when the issuer was asked since this call began, else after
        how many seconds that can be tried again."""
        if self._jwks is None:
            return None
        begun = time.monotonic()
        await self._fetch(self._jwks)
        return None if self._jwks.answered >= begun else max(0.1, self._jwks.wait_s)

    @property
    def has_issuer(self) -> bool:
        return self._jwks is not None

    async def _fetch(self, jwks: Jwks) -> None:
        assert self._http is not None
        before = jwks.keys
        await jwks.refresh(self._http)
        if jwks.keys is not before:
            self._gather()

    def _all(self) -> list[Key]:
        """Return all keys; of two that have one id, the one of our own file counts."""
        own = [*self._fixed, *(self._file.keys if self._file else ())]
        names = {key.kid for key in own}
        published = self._jwks.keys if self._jwks else ()
        return [*own, *(key for key in published if key.kid is None or key.kid not in names)]

    def _gather(self) -> None:
        try:
            ring = check_together(self._all())
        except InvalidRequest as error:
            log.error("token_keys_do_not_go_together", detail=error.message)
            return
        if ring.keys != self.ring.keys:
            self.ring = ring
            self.generation += 1
            log.info("token_keys_changed", keys=len(ring.keys))
            for sink in list(self._sinks):
                sink()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            if self._file is not None and self._file.changed():
                self._gather()
            if self._jwks is not None and self._jwks.due:
                await self._fetch(self._jwks)
            self._count()

    def _count(self) -> None:
        if self._counts is not None:
            published = len(self._jwks.keys) if self._jwks else 0
            # Where the issuer has never answered: since we ask.
            age_s = time.monotonic() - max(self._jwks.answered, self._since) if self._jwks else 0.0
            self._counts.keys_held(len(self._all()) - published, published, age_s)
