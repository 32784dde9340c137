"""Where keys come from, again and again: a file that changes, an issuer's JWKS that rotates."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
import structlog
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.endings import end
from session_fabric_gateway.tokens.keys import Key, check_together, published_keys, read_keys

log = structlog.get_logger()

_FETCH_WITHIN_S: Final = 5.0
_MOST_JWKS_BYTES: Final = 256 * 1024


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


class Jwks:
    """An issuer's keys, as its URL last gave them. While it is down, these go on to count."""

    def __init__(self, url: str, *, max_age_s: float = 300.0, at_least_s: float = 10.0) -> None:
        self.url = url
        self.keys: Sequence[Key] = ()
        # When the newest answer was asked for, by the monotonic clock; and the newest try of all.
        self.answered = self.tried = -1e9
        self._max_age_s = max_age_s
        self._at_least_s = at_least_s
        self._fetching: asyncio.Task[None] | None = None

    @property
    def wait_s(self) -> float:
        """How long it is until it may be asked again."""
        return max(0.0, self.tried + self._at_least_s - time.monotonic())

    @property
    def due(self) -> bool:
        return time.monotonic() >= self.answered + self._max_age_s and self.wait_s <= 0

    async def refresh(self, http: aiohttp.ClientSession) -> None:
        """Ask again, unless that was done only now; all who want it wait for one answer. Never raises."""
        if self._fetching is None:
            if self.wait_s > 0:
                return
            self._fetching = asyncio.create_task(self._fetch(http), name="jwks")
        # Whoever waits may be cancelled; the others still get their answer.
        await asyncio.shield(self._fetching)

    async def close(self) -> None:
        if self._fetching is not None:
            await end([self._fetching])

    async def _fetch(self, http: aiohttp.ClientSession) -> None:
        self.tried = asked = time.monotonic()
        try:
            async with asyncio.timeout(_FETCH_WITHIN_S):
                keys = published_keys(await self._get(http), self.url)
        except (aiohttp.ClientError, OSError, ValueError, InvalidRequest) as error:
            detail = error.message if isinstance(error, InvalidRequest) else type(error).__name__
            log.warning("jwks_not_fetched", url=self.url, detail=detail)
        else:
            self.answered, self.keys = asked, keys
        finally:
            self._fetching = None

    async def _get(self, http: aiohttp.ClientSession) -> bytes:
        # Keys that another host gives are not this issuer's: redirects are not followed.
        async with http.get(self.url, allow_redirects=False) as response:
            if response.status != 200:
                raise InvalidRequest(f"It answered {response.status}.")
            data = b""
            async for chunk in response.content.iter_chunked(16 * 1024):
                data += chunk
                if len(data) > _MOST_JWKS_BYTES:
                    raise InvalidRequest(f"It has more than {_MOST_JWKS_BYTES} bytes.")
            return data


class KeyKeeper:
    """All keys that count now, kept right for as long as the `async with` lasts.

    `generation` rises when they change.
    """

    def __init__(
        self, fixed: Sequence[Key] = (), file: KeyFile | None = None, jwks: Jwks | None = None, *, look_s: float = 1.0
    ) -> None:
        """Raises `InvalidRequest` for keys that do not go together."""
        self._fixed = tuple(fixed)
        self._file = file
        self._jwks = jwks
        self._look_s = look_s
        self._http: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self.generation = 0
        self._sinks: list[Callable[[], None]] = []
        self.ring = check_together(self._all())

    async def __aenter__(self) -> Self:
        if self._jwks is not None:
            self._http = aiohttp.ClientSession(headers={"Accept": "application/jwk-set+json, application/json"})
            await self._fetch(self._jwks)
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
