"""The JetStream broker: one connection, and the rooms that use it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nats.errors import Error as NatsError

from session_fabric.jetstream import departures
from session_fabric.jetstream.api import Api
from session_fabric.jetstream.blobs import Blobs
from session_fabric.jetstream.buckets import JetStreamBucket
from session_fabric.jetstream.calls import JetStreamCalls
from session_fabric.jetstream.durable import (
    JetStreamDurable,
    consumer_config,
    consumer_name,
    delete_consumers,
    ensure_consumer,
)
from session_fabric.jetstream.log import JetStreamLog, Tapped
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.topology import Topology, check_version
from session_fabric.ports import BUCKETS, Wanted
from session_fabric.words.errors import BrokerRefused, BrokerUnavailable, InvalidRequest
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place, answers_prefix

# A client that waits longer leaves viewers without news for longer than the two seconds they are promised.
_RECONNECT_WAIT_S = 0.1
# A node that is frozen, not gone, is noticed after two of these.
_PING_S = 3
_SCHEMES = frozenset({"nats", "tls", "ws", "wss"})
DEFAULT_STREAMS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How to introduce oneself to the broker; at most one of token, user and password, or a credentials file."""

    token: str | None = None
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, Any]:
        named = {
            "token": self.token,
            "user": self.user,
            "password": self.password,
            "user_credentials": self.credentials,
            "tls": self.tls,
        }
        return {key: value for key, value in named.items() if value is not None}


class JetStreamSignals:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, place: Place, data: bytes) -> None:
        if self._connection.is_connected:  # ambient: what cannot go now is not worth keeping
            await self._connection.publish(place.signals(), data)

    async def listen(self, place: Place, sink: Callable[[bytes], None]) -> Tapped:
        number = await self._connection.tap_now(place.signals(), lambda _s, _r, _h, payload: sink(payload))
        return Tapped(self._connection, number)


class JetStreamBroker:
    """Keeps the promises of `session_fabric.ports.Broker` on a nats-server or a cluster of them."""

    def __init__(self, connection: Connection, url: str) -> None:
        self.url = url
        self.holder = new_id()
        self._connection = connection
        self._requests = Requests(connection)
        self.api = Api(self._requests)
        self.topology = Topology(self.api)
        self._blobs = Blobs(self._requests, self.api)
        self.log = JetStreamLog(connection, self._requests, self.api, self.topology, self._blobs)
        self.signals = JetStreamSignals(connection)
        self._asking = Requests(connection)
        self.calls = JetStreamCalls(connection, self._asking)
        self._buckets = {name: JetStreamBucket(name, connection, self._requests, self.api) for name in BUCKETS}
        self._sinks: list[Callable[[bool], None]] = []
        self._generation = 0
        self._closing = False

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        provision: bool = True,
        streams: int | None = None,
        replicas: int | None = None,
        name: str = "session-fabric",
        credentials: Credentials | None = None,
        timeout_s: float = 10.0,
    ) -> JetStreamBroker:
        """Connect, and make or check what the fabric keeps at the broker.

        `url`: `nats://host:port`, several separated by commas. `streams` (a power of two up to 256; 16 when not
        given) and `replicas` (three in a cluster, else one) count only when they are made. Raises
        `BrokerUnavailable`, `BrokerTooOld`, `BrokerIncompatible`, `BrokerRefused`.
        """
        if streams is not None and (streams not in (1, 2, 4, 8, 16, 32, 64, 128, 256)):
            raise InvalidRequest(f"{streams} streams cannot share 256 shards.", hint="Use a power of two up to 256.")
        for part in url.split(","):
            if urlsplit(part.strip()).scheme not in _SCHEMES:
                raise InvalidRequest(
                    f"{shown(part.strip())!r} is not a broker's URL.", hint="Use nats://HOST:PORT (or tls, ws, wss)."
                )
        connection = Connection()
        broker = cls(connection, url)
        try:
            async with asyncio.timeout(timeout_s):
                await connection.connect(
                    [part.strip() for part in url.split(",")],
                    name=departures.name_of(name, broker.holder),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float works
                    connect_timeout=2,
                    ping_interval=_PING_S,
                    max_outstanding_pings=2,
                    pending_size=16 * 1024 * 1024,
                    disconnected_cb=broker._disconnected,
                    reconnected_cb=broker._reconnected,
                    error_cb=broker._failed,
                    **(credentials or Credentials()).options(),
                )
                await broker._requests.open()
                await broker._asking.open(answers_prefix(broker.holder), new_id)
                check_version(str(connection.connected_server_version), shown(url))
                await broker.topology.open(provision=provision, streams=streams or DEFAULT_STREAMS, replicas=replicas)
        except (TimeoutError, NatsError, OSError) as error:
            await broker.close()
            text = str(error) or f"no answer within {timeout_s:g} s"
            if "authorization" in text.lower():
                raise BrokerRefused(
                    f"The broker at {shown(url)} does not accept the credentials.",
                    hint="Check token, user or file.",
                ) from error
            raise BrokerUnavailable(
                f"No broker can be reached at {shown(url)}: {text}.",
                hint="Start nats-server with JetStream (`nats-server -js`), or use the embedded one.",
            ) from error
        except BaseException:
            await broker.close()
            raise
        return broker

    # --- the connection ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return bool(self._connection.is_connected)

    @property
    def generation(self) -> int:
        return self._generation

    def on_connection(self, sink: Callable[[bool], None]) -> Callable[[], None]:
        self._sinks.append(sink)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._sinks.remove(sink)

        return end

    async def on_departure(self, sink: Callable[[str], None]) -> Tapped:
        number = await self._connection.tap(departures.SUBJECT, departures.hearing(sink))
        return Tapped(self._connection, number)

    async def _disconnected(self) -> None:
        for requests in (self._requests, self._asking):
            requests.fail_all("The broker connection was lost.")
        if not self._closing:
            log.warning("broker_lost", url=shown(self.url))
            self._tell(False)

    async def _reconnected(self) -> None:
        self._generation += 1
        log.info("broker_found", url=shown(self.url), generation=self._generation)
        self._tell(True)

    def _tell(self, connected: bool) -> None:
        for sink in list(self._sinks):
            sink(connected)

    async def _failed(self, error: Exception) -> None:
        if not self._closing:
            log.warning("broker_error", error=type(error).__name__, detail=str(error)[:200])

    async def ping(self, timeout_s: float = 2.0) -> float:
        try:
            return float(await self._connection.rtt(timeout=timeout_s))  # type: ignore[arg-type]
        except (NatsError, TimeoutError, OSError) as error:
            raise BrokerUnavailable(f"The broker did not answer a ping within {timeout_s:g} s.") from error

    async def close(self) -> None:
        self._closing = True
        if not self._connection.is_closed:
            await self._connection.close()

    # --- rooms ------------------------------------------------------------------------------------

    def bucket(self, name: str) -> JetStreamBucket:
        return self._buckets[name]

    async def durable(
        self,
        tenant: str | None,
        name: str,
        *,
        place: Place | None,
        wanted: Sequence[Wanted],
        ack_wait_s: float,
        max_deliver: int,
        start: str,
    ) -> JetStreamDurable:
        config = consumer_config(
            consumer_name(tenant, name, place), tenant, place, wanted, ack_wait_s, max_deliver, start
        )
        streams = [self.topology.home(place).stream] if place else [s.name for s in self.topology.streams]
        consumers = [await ensure_consumer(self.api, stream, dict(config)) for stream in streams]
        durable = JetStreamDurable(self._connection, self._requests, self.api, lambda: self._generation, consumers)
        await durable.open()
        return durable

    async def put_blob(self, place: Place, name: str, data: bytes) -> None:
        await self._blobs.put(place, name, data)

    async def get_blob(self, place: Place, name: str) -> bytes | None:
        return await self._blobs.get(place, name)

    async def delete_blobs(self, place: Place) -> int:
        return await self._blobs.delete_all(place)

    async def delete_durables(self, place: Place) -> int:
        stream = self.topology.home(place).stream
        return await delete_consumers(self.api, stream, {"tenant": place.tenant, "session": place.session})

    async def list_streams(self) -> Sequence[Mapping[str, object]]:
        """Return the info of each session stream as JetStream gives it."""
        return await self.topology.infos(mine="log")


def shown(url: str) -> str:
    """Return a broker URL without its credentials, for messages and logs."""
    return ",".join(
        part.replace(f"{urlsplit(part).netloc.rpartition('@')[0]}@", "") if "@" in part else part
        for part in url.split(",")
    )
