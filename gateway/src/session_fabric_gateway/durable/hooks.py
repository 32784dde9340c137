"""Calls to webhooks: to public hosts alone, whatever their names resolve to, and to those that an operator lists."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from session_fabric.words.errors import InvalidRequest
from yarl import URL

from session_fabric_gateway.settings import is_loopback

log = structlog.get_logger()

_TIMEOUT_S: Final = 15.0
_MOST_ANSWER: Final = 64 * 1024
_MOST_URL: Final = 2048
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
# What is called of a name once it is spelled in ASCII (RFC 1123, and the `_` that is found all the same).
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_BLANK: Final = re.compile(r"[\x00-\x20\x7f]")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# All of IPv6 that is anybody's; documents have the second (RFC 9637).
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_DOCUMENTS: Final = ipaddress.IPv6Network("3fff::/20")
# Protocols' own (RFC 6890); clouds have their metadata there.
_PROTOCOLS: Final = ipaddress.IPv4Network("192.0.0.0/24")


class WebhookRefused(InvalidRequest):
    """Its URL is not one that is called."""


class _PublicOnly(AbstractResolver):
    """Resolves names, and leaves out what is not public: what a name means may change after it was checked."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._below = aiohttp.ThreadedResolver()
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._below.resolve(host, port, family)
        if host.rstrip(".") in self._allowed:
            return found
        public = [one for one in found if is_public(one["host"])]
        if not public:
            raise OSError(f"{host} is no public host")
        return public

    async def close(self) -> None:
        await self._below.close()


def is_public(address: str) -> bool:
    """Say whether an address may be anybody's on the internet."""
    try:
        ip = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = _inner(ip)
        if inner is None:
            return ip in _UNICAST and ip not in _DOCUMENTS and ip.is_global
        ip = inner
    return ip.is_global and not ip.is_multicast and ip not in _PROTOCOLS


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to, by whatever is between: mapped, 6to4, Teredo, NAT64."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo is not None else None)


class Hooks:
    """`hosts`: names and addresses that may be called though they are not public. `local`: this machine too."""

    def __init__(self, hosts: Sequence[str], *, local: bool) -> None:
        self._hosts = frozenset(map(_spelled, hosts))
        self._local = local
        self._session: aiohttp.ClientSession | None = None

    def check(self, url: str) -> str:
        """Return a URL that may be called. Raises `WebhookRefused`."""
        try:
            parts = urlsplit(url)
            # As it is called: of a name in other letters, and of digits that are none of ASCII, that is another one.
            host, port = (URL(url).raw_host or "").rstrip("."), parts.port
        except (ValueError, TypeError):
            raise WebhookRefused(f"{url!r:.200} is not a URL.", hint="Use https://…") from None
        if port == 0 or _BLANK.search(url) or not (_is_address(host) or _NAME.fullmatch(host)):
            raise WebhookRefused(
                f"{url!r:.200} is not a URL.",
                hint="Use https://… with a host's name or address, a port that is not 0, and %20 for a space.",
            )
        plain = parts.scheme == "http"
        if len(url) > _MOST_URL or (parts.scheme != "https" and not plain) or parts.username is not None:
            raise WebhookRefused(f"{url!r:.200} is not the URL of a webhook.", hint="Use https://…, without a user.")
        if host in self._hosts or (self._local and is_loopback(host)):
            return url
        if plain:
            raise WebhookRefused(f"{url!r:.200} is not https.", hint="Use https://…")
        # An address in a short form (127.1, 2130706433, 0x7f.1) would be called without having been resolved.
        short = _NUMBER.fullmatch(host.rpartition(".")[2]) and not _is_address(host)
        ours = host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
        if short or ours or (_is_address(host) and not is_public(host)):
            raise WebhookRefused(f"{host!r:.200} is not a public host.", hint="Operators list others: --webhook-host.")
        return url

    async def post(self, url: str, body: bytes, signature: str) -> bool | None:
        """Call a webhook: True when it is done, False when it will say so later, None when it did not take the call."""
        try:
            self.check(url)
            async with self._client().post(
                url,
                data=body,
                headers={"Content-Type": "application/json", "Webhook-Signature": signature},
                allow_redirects=False,
            ) as response:
                if not 200 <= response.status < 300:
                    log.warning("webhook_refused", status=response.status)
                    return None
                answer = await response.content.read(_MOST_ANSWER)
        except (aiohttp.ClientError, OSError, TimeoutError, InvalidRequest) as error:
            log.warning("webhook_failed", error=type(error).__name__)
            return None
        return _is_done(answer)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            allowed = self._hosts | (frozenset({"localhost"}) if self._local else frozenset())
            connector = aiohttp.TCPConnector(resolver=_PublicOnly(allowed), limit=64, limit_per_host=8)
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _spelled(host: str) -> str:
    """Spell a host that is listed as URLs have it when they are called."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.rstrip(".").lower()


def _is_done(answer: bytes) -> bool:
    try:
        value: Any = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and value.get("done") is True
