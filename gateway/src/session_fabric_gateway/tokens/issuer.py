"""An issuer's keys, as it publishes them: a JWKS that rotates, asked for again and again."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
import structlog
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.endings import end
from session_fabric_gateway.tokens.keys import Key, published_keys

log = structlog.get_logger()

# How a fetch ended: with keys, with an answer that has none, with no answer.
Outcome = Literal["fetched", "unusable", "unreachable"]

_FETCH_WITHIN_S: Final = 5.0
_MOST_JWKS_BYTES: Final = 256 * 1024
# Of the keys that are left out, as many are named in the log.
_MOST_TOLD: Final = 8


class _Answered(InvalidRequest):
    """The issuer's answer is no JWKS."""


class Jwks:
    """An issuer's keys, as its URL last gave them. While it is down, these go on to count."""

    def __init__(
        self,
        url: str,
        *,
        ca: Path | None = None,
        proxy: str | None = None,
        max_age_s: float = 300.0,
        at_least_s: float = 10.0,
        on_fetched: Callable[[Outcome], None] | None = None,
    ) -> None:
        """`ca`: authorities that are trusted in place of the system's, read again with each fetch; `proxy`: through
        which it is asked; `on_fetched` is told how each fetch ended. Raises `InvalidRequest`."""
        self.url = url
        self._ca = ca
        self._proxy = proxy
        self._on_fetched = on_fetched
        self._trusted = self._trust()
        self.keys: Sequence[Key] = ()
        self._left_out: list[str] = []
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
        outcome: Outcome = "unreachable"
        try:
            if self._ca is not None:
                self._trusted = self._trust()
            async with asyncio.timeout(_FETCH_WITHIN_S):
                data = await self._get(http)
            outcome = "unusable"
            published = published_keys(data, self.url)
            self.keys = published.keys
            self.answered, outcome = asked, "fetched"
            self._tell_left_out(published.left_out)
        except (aiohttp.ClientError, OSError, ValueError, InvalidRequest) as error:
            if isinstance(error, _Answered):
                outcome = "unusable"
            detail = error.message if isinstance(error, InvalidRequest) else type(error).__name__
            log.warning("jwks_not_fetched", url=self.url, outcome=outcome, detail=detail)
        finally:
            self._fetching = None
        if self._on_fetched is not None:
            self._on_fetched(outcome)

    def _tell_left_out(self, left_out: list[str]) -> None:
        """Log which of the issuer's keys are not used, where they are not those that it left out before."""
        if left_out and left_out != self._left_out:
            log.warning("jwks_keys_left_out", url=self.url, keys=len(left_out), detail=" ".join(left_out[:_MOST_TOLD]))
        self._left_out = left_out

    async def _get(self, http: aiohttp.ClientSession) -> bytes:
        # Keys that another host gives are not this issuer's: redirects are not followed.
        async with http.get(self.url, allow_redirects=False, ssl=self._trusted, proxy=self._proxy) as response:
            if response.status != 200:
                raise _Answered(f"It answered {response.status}.")
            data = b""
            async for chunk in response.content.iter_chunked(16 * 1024):
                data += chunk
                if len(data) > _MOST_JWKS_BYTES:
                    raise _Answered(f"It has more than {_MOST_JWKS_BYTES} bytes.")
            return data

    def _trust(self) -> ssl.SSLContext:
        """Return whom to believe that they are the issuer; as the system does, where nobody is named.

        Raises `InvalidRequest`.
        """
        try:
            return ssl.create_default_context(cafile=self._ca)
        except OSError as error:
            why = "holds no certificate" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
            raise InvalidRequest(f"{self._ca} {why}.", hint="Give a PEM file with the issuer's authority.") from error


def proxy_for(url: str) -> str | None:
    """Return through which proxy a URL is asked, as HTTPS_PROXY and NO_PROXY say. Raises `InvalidRequest`."""
    parts = urlsplit(url)
    proxy = getproxies_environment().get("https") if parts.scheme == "https" else None
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if found.scheme not in ("http", "https") or not found.hostname:
        raise InvalidRequest("HTTPS_PROXY is not a URL of a proxy.", hint="For example http://proxy.example:3128.")
    return found.geturl()
