"""One connection to a broker: how it is made, what is told of it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable
from urllib.parse import urlsplit

from nats.errors import Error as NatsError

from session_fabric.jetstream import departures
from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.reasons import Reasons, is_refusal
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.streams import check_version
from session_fabric.words.errors import BrokerUnavailable, InvalidRequest
from session_fabric.words.logs import log

# A client that waits longer leaves viewers without news for longer than the two seconds they are promised.
_RECONNECT_WAIT_S = 0.1
# Who is refused asks again ever more seldom, and is there soon after it is let in.
_REFUSED_WAIT_S = 2.0
# A node that is frozen, not gone, is noticed after two of these.
_PING_S = 3
# nats-server tells so beside everything else, and the request itself stays without an answer (docs.nats.io,
# "Authorization"): whoever waits for it must hear.
_REFUSED = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
# A right that lacks may be missed in each session: nobody reads more than so many of them.
_MOST_TOLD = 1000
_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})


def check_url(url: str) -> None:
    """Raise `InvalidRequest` for what is not the URL of a broker, or several of one, with commas between."""
    for part in map(str.strip, url.split(",")):
        if not _is_url(part):
            # What cannot be taken apart may hold a password where nobody finds it.
            said = part.rpartition("@")[2]
            raise InvalidRequest(
                f"{said!r:.140} is not a broker's URL.", hint="Use nats://HOST:PORT (or tls, ws, wss)."
            )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Out of range it raises: only asking says so.
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", text)
    except ValueError:
        return False


class Dial:
    """A connection under a holder's name; `generation` rises with each time that it is made again."""

    def __init__(self, url: str, credentials: Credentials | None, name: str, holder: str) -> None:
        check_url(url)
        self.url = url
        self.holder = holder
        self.connection = Connection()
        self.generation = 0
        self._credentials = credentials or Credentials()
        self._name = name
        self._requests: tuple[Requests, ...] = ()
        self._sinks: list[Callable[[bool], None]] = []
        self._closing = False
        self._reasons = Reasons()
        self._told: set[str] = set()  # of what was wrong since there was a connection: each is said once

    @property
    def connected(self) -> bool:
        return bool(self.connection.is_connected)

    @property
    def closed(self) -> bool:
        return self.connection.ended

    def token(self) -> str:
        """Return what one asks the fabric with now."""
        return self._credentials.asking()

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
                    reconnect_time_wait=_RECONNECT_WAIT_S,  # a float works
                    connect_timeout=2,
                    ping_interval=_PING_S,
                    max_outstanding_pings=2,
                    pending_size=16 * 1024 * 1024,
                    disconnected_cb=self._disconnected,
                    reconnected_cb=self._reconnected,
                    error_cb=self._failed,
                    **self._credentials.options(),
                )
                self._let_in()
                check_version(str(connection.connected_server_version), shown(self.url))
                yield
        except (TimeoutError, NatsError, OSError) as error:
            reached = self.connected
            await self.close()
            raise self._reasons.error(shown(self.url), timeout_s, error, reached=reached) from error
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
            requests.fail_all(None if self._closing else "The broker connection was lost.")
        if not self._closing:
            log.warning("broker_lost", url=shown(self.url))
            self._tell(False)

    async def _reconnected(self) -> None:
        self._let_in()
        self.generation += 1
        log.info("broker_found", url=shown(self.url), generation=self.generation)
        self._tell(True)

    def gap(self) -> None:
        """Something was not heard, though the connection was there: tell of it as if it had been made again."""
        self.generation += 1
        self._tell(True)

    def _tell(self, connected: bool) -> None:
        for sink in list(self._sinks):
            sink(connected)

    def _let_in(self) -> None:
        self._reasons = Reasons()
        self._told.clear()
        self.connection.options["reconnect_time_wait"] = _RECONNECT_WAIT_S

    async def _failed(self, error: Exception) -> None:
        refused = _REFUSED.search(str(error))
        if refused is not None:
            what = "publish to" if refused[1].lower() == "publish" else "subscribe to"
            for requests in self._requests:
                requests.forbid(what, refused[2])
        self._reasons.add(error, certificates=bool(self.connection.server_facts.get("tls_verify")))
        if is_refusal(error):
            wait_s = self.connection.options["reconnect_time_wait"]
            self.connection.options["reconnect_time_wait"] = min(wait_s * 2, _REFUSED_WAIT_S)
        detail = str(error)[:200]
        if self._closing or detail in self._told or len(self._told) >= _MOST_TOLD:
            return
        self._told.add(detail)
        log.warning("broker_error", error=type(error).__name__, detail=detail)

    async def ping(self, timeout_s: float = 2.0) -> float:
        try:
            return float(await self.connection.rtt(timeout=timeout_s))  # type: ignore[arg-type]
        except (NatsError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"The broker did not answer a ping within {timeout_s:g} s.") from error

    async def close(self) -> None:
        self._closing = True
        try:
            await self.connection.close()
        finally:
            self._tell(False)  # also where nats-py had given up before: who waits is told that nothing will come


def shown(url: str) -> str:
    """Return a broker URL without its credentials, for messages and logs."""
    return ",".join(
        part.replace(f"{urlsplit(part).netloc.rpartition('@')[0]}@", "") if "@" in part else part
        for part in url.split(",")
    )
