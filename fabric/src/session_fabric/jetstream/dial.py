"""One connection to a broker: how it is made, what is told of it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nats.errors import Error as NatsError

from session_fabric.jetstream import departures
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.topology import check_version
from session_fabric.words.errors import BrokerRefused, BrokerUnavailable, InvalidRequest
from session_fabric.words.logs import log

# A client that waits longer leaves viewers without news for longer than the two seconds they are promised.
_RECONNECT_WAIT_S = 0.1
# A node that is frozen, not gone, is noticed after two of these.
_PING_S = 3
_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How to introduce oneself to the broker; at most one of token, user and password, or a credentials file.

    `bearer`: what those who have no rights there ask the fabric with, where that is not the broker's `token`.
    """

    token: str | None = None
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    tls: ssl.SSLContext | None = None
    bearer: str | None = None

    def options(self) -> dict[str, Any]:
        named = {
            "token": self.token,
            "user": self.user,
            "password": self.password,
            "user_credentials": self.credentials,
            "tls": self.tls,
        }
        return {key: value for key, value in named.items() if value is not None}


class Dial:
    """A connection under a holder's name; `generation` rises with each time that it is made again."""

    def __init__(self, url: str, credentials: Credentials | None, name: str, holder: str) -> None:
        for part in url.split(","):
            if urlsplit(part.strip()).scheme not in _SCHEMES:
                raise InvalidRequest(
                    f"{shown(part.strip())!r} is not a broker's URL.", hint="Use nats://HOST:PORT (or tls, ws, wss)."
                )
        self.url = url
        self.holder = holder
        self.connection = Connection()
        self.generation = 0
        self._credentials = credentials or Credentials()
        self._name = name
        self._requests: tuple[Requests, ...] = ()
        self._sinks: list[Callable[[bool], None]] = []
        self._closing = False

    @property
    def connected(self) -> bool:
        return bool(self.connection.is_connected)

    def token(self) -> str:
        """Return what one asks the fabric with now."""
        return self._credentials.bearer or self._credentials.token or ""

    @contextlib.asynccontextmanager
    async def connecting(self, timeout_s: float, *requests: Requests) -> AsyncGenerator[None, None]:
        """Connect, and do what belongs to it within the same time; whatever fails, nothing is left behind.

        `requests` fail when the connection is lost. Raises `BrokerUnavailable`, `BrokerTooOld`, `BrokerRefused`.
        """
        self._requests = requests
        connection = self.connection
        try:
            async with asyncio.timeout(timeout_s):
                await connection.connect(
                    [part.strip() for part in self.url.split(",")],
                    name=departures.name_of(self._name, self.holder),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float works
                    connect_timeout=2,
                    ping_interval=_PING_S,
                    max_outstanding_pings=2,
                    pending_size=16 * 1024 * 1024,
                    disconnected_cb=self._disconnected,
                    reconnected_cb=self._reconnected,
                    error_cb=self._failed,
                    **self._credentials.options(),
                )
                check_version(str(connection.connected_server_version), shown(self.url))
                yield
        except (TimeoutError, NatsError, OSError) as error:
            await self.close()
            text = str(error) or f"no answer within {timeout_s:g} s"
            if "authorization" in text.lower():
                raise BrokerRefused(
                    f"The broker at {shown(self.url)} does not accept the credentials.",
                    hint="Check token, user or file.",
                ) from error
            raise BrokerUnavailable(
                f"No broker can be reached at {shown(self.url)}: {text}.",
                hint="Start nats-server with JetStream (`nats-server -js`), or use the embedded one.",
            ) from error
        except BaseException:
            await self.close()
            raise

    def on_connection(self, sink: Callable[[bool], None]) -> Callable[[], None]:
        self._sinks.append(sink)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._sinks.remove(sink)

        return end

    async def _disconnected(self) -> None:
        for requests in self._requests:
            requests.fail_all("The broker connection was lost.")
        if not self._closing:
            log.warning("broker_lost", url=shown(self.url))
            self._tell(False)

    async def _reconnected(self) -> None:
        self.generation += 1
        log.info("broker_found", url=shown(self.url), generation=self.generation)
        self._tell(True)

    def _tell(self, connected: bool) -> None:
        for sink in list(self._sinks):
            sink(connected)

    async def _failed(self, error: Exception) -> None:
        if not self._closing:
            log.warning("broker_error", error=type(error).__name__, detail=str(error)[:200])

    async def ping(self, timeout_s: float = 2.0) -> float:
        try:
            return float(await self.connection.rtt(timeout=timeout_s))  # type: ignore[arg-type]
        except (NatsError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"The broker did not answer a ping within {timeout_s:g} s.") from error

    async def close(self) -> None:
        self._closing = True
        if not self.connection.is_closed:
            await self.connection.close()


def shown(url: str) -> str:
    """Return a broker URL without its credentials, for messages and logs."""
    return ",".join(
        part.replace(f"{urlsplit(part).netloc.rpartition('@')[0]}@", "") if "@" in part else part
        for part in url.split(",")
    )
