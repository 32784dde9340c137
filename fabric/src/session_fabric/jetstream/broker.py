"""The JetStream broker: one connection, and the rooms that use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from session_fabric.jetstream import admissions, departures
from session_fabric.jetstream.admissions import Admissions
from session_fabric.jetstream.api import Api
from session_fabric.jetstream.backlogs import backlogs
from session_fabric.jetstream.blobs import Blobs
from session_fabric.jetstream.buckets import JetStreamBucket
from session_fabric.jetstream.calls import JetStreamCalls
from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.dial import Dial, shown
from session_fabric.jetstream.durable import (
    JetStreamDurable,
    Subscribed,
    consumer_config,
    consumer_name,
    consumers_of,
    delete_consumers,
)
from session_fabric.jetstream.entrance import check_jetstream
from session_fabric.jetstream.live import Tapped
from session_fabric.jetstream.log import JetStreamLog
from session_fabric.jetstream.moves.finishing import Finishing
from session_fabric.jetstream.moves.mover import Mover
from session_fabric.jetstream.passing import Passing, Sees
from session_fabric.jetstream.reading import Reader
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.services import Answer, Services
from session_fabric.jetstream.tenanted import Tenanted
from session_fabric.jetstream.topology import BUCKET as LAYOUT_BUCKET
from session_fabric.jetstream.topology import RECORDS, Topology
from session_fabric.ports import BUCKETS, Backlog, Departure, Wanted
from session_fabric.words.closing import Closed
from session_fabric.words.errors import BrokerUnavailable, InvalidRequest
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place, answers_prefix

DEFAULT_STREAMS = 16
_AGAIN_S = 0.1


class JetStreamSignals:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, place: Place, data: bytes) -> None:
        if self._connection.ended:
            raise Closed
        if self._connection.is_connected:  # ambient: what cannot go now is not worth keeping
            await self._connection.publish(place.signals(), data)

    async def listen(self, place: Place, sink: Callable[[bytes], None]) -> Tapped:
        number = await self._connection.tap_now(place.signals(), lambda _s, _r, _h, payload: sink(payload))
        return Tapped(self._connection, number)


class JetStreamBroker:
    """Keeps the promises of `session_fabric.ports.Broker` on a nats-server or a cluster of them."""

    may_mend = True

    def __init__(self, dial: Dial) -> None:
        connection = dial.connection
        self.url = dial.url
        self.holder = dial.holder
        self._dial = dial
        self._connection = connection
        self._requests = Requests(connection)
        self.api = Api(self._requests)
        self._buckets = {name: JetStreamBucket(name, connection, self._requests, self.api) for name in BUCKETS}
        self.topology = Topology(self.api, self._buckets[LAYOUT_BUCKET])
        dial.on_connection(lambda connected: self.topology.look_again() if connected else None)
        self._blobs = Blobs(self._requests, self.api)
        self.log = JetStreamLog(connection, self._requests, self.api, self.topology, self._blobs)
        self.signals = JetStreamSignals(connection)
        self._asking = Requests(connection)
        self.calls = JetStreamCalls(connection, self._asking)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        provision: bool = True,
        look: bool = True,
        streams: int | None = None,
        replicas: int | None = None,
        name: str = "session-fabric",
        credentials: Credentials | None = None,
        timeout_s: float = 10.0,
    ) -> JetStreamBroker:
        """Connect, and make or check what the fabric keeps at the broker.

        `url`: `nats://host:port`, several separated by commas. `streams` (a power of two up to 256; 16 when not
        given) and `replicas` (three in a cluster, else one) count only when they are made. `look` False: whatever is
        there, for who finds out what is wrong with it. A broker that is away or elects is waited for (`timeout_s`).
        Raises `BrokerUnavailable`, `BrokerTooOld`, `BrokerIncompatible`, `BrokerRefused`.
        """
        check_streams(streams)
        dial = Dial(url, credentials, name, new_id())
        broker = cls(dial)
        async with dial.connecting(timeout_s, broker._requests, broker._asking):
            await broker._requests.open()
            await broker._asking.open(answers_prefix(broker.holder), new_id)
            if not look:
                return broker
            await check_jetstream(broker._requests, dial.connection, shown(url))
            await broker._open_topology(provision, streams or DEFAULT_STREAMS, replicas)
        return broker

    async def _open_topology(self, provision: bool, streams: int, replicas: int | None) -> None:
        """Do it again while there are no leaders: whoever connects says for how long."""
        while True:
            try:
                await self.topology.open(provision=provision, streams=streams, replicas=replicas)
                return
            except BrokerUnavailable as error:
                log.warning("waiting_for_broker", detail=error.message)
                await asyncio.sleep(_AGAIN_S)

    # --- the connection ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._dial.connected

    @property
    def closed(self) -> bool:
        return self._dial.closed

    @property
    def generation(self) -> int:
        return self._dial.generation

    def on_connection(self, sink: Callable[[bool], None]) -> Callable[[], None]:
        return self._dial.on_connection(sink)

    def after_heard(self, then: Callable[[], None]) -> None:
        """Call `then` when sinks of `log.listen` have heard what came together."""
        self._connection.after_taps(then)

    async def on_departure(self, sink: Callable[[Departure], None]) -> Tapped:
        number = await self._connection.tap(departures.SUBJECT, departures.hearing(sink))
        return Tapped(self._connection, number)

    async def ping(self, timeout_s: float = 2.0) -> float:
        return await self._dial.ping(timeout_s)

    async def close(self) -> None:
        await self._dial.close()

    def answering(self, answer: Answer) -> Services:
        """Return what answers, when it is opened, those who have no rights at the broker but to ask."""
        return Services(self._connection, answer)

    def passing(self, to: str, sees: Sees | None) -> Passing:
        """Return what passes on to `to`, when it is opened, what is told live."""
        return Passing(self._connection, to, sees)

    def admitting(self, answer: admissions.Answer) -> Admissions:
        """Return what answers, when it is opened, whom the broker lets in beside those it knows."""
        return Admissions(self._connection, self._requests, answer)

    def tenanted(self, tenant: str) -> Tenanted:
        """Return what looks over all that is here of a tenant."""
        return Tenanted(self.api, Reader(self._requests, self.api), self.topology, self._buckets, tenant)

    def finishing(self) -> Finishing:
        """Return what brings to its end, while it runs, a move whose mover died as a stream took over."""
        bucket, records = self._buckets[LAYOUT_BUCKET], [self._buckets[name] for name in RECORDS]
        mover = Mover(self.api, self._requests, bucket, records, lambda said: log.info("move_finished", detail=said))
        return Finishing(self.topology, bucket, mover)

    def reached(self) -> tuple[Connection, Requests]:
        """Return the connection and its requests, for who looks at the broker itself."""
        return self._connection, self._requests

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
        of = Subscribed(tenant, place, config)
        durable = JetStreamDurable(
            self._connection, self._requests, self.api, self.topology, lambda: self.generation, of
        )
        await durable.open()
        return durable

    async def put_blob(self, place: Place, name: str, data: bytes) -> None:
        await self._blobs.put(place, name, data)

    async def get_blob(self, place: Place, name: str) -> bytes | None:
        return await self._blobs.get(place, name)

    async def blobs(self, place: Place) -> Sequence[str]:
        return await self._blobs.names(place)

    async def delete_blobs(self, place: Place, names: Sequence[str] | None = None) -> int:
        if names is None:
            return await self._blobs.delete_all(place)
        return sum([await self._blobs.delete(place, name) for name in names])

    async def durables(self, place: Place) -> Sequence[str]:
        at = await self.topology.to_read(place)
        names = [name for stream in at.streams for name in await consumers_of(self.api, stream, _of_session(place))]
        return list(dict.fromkeys(names))

    async def delete_durables(self, place: Place) -> int:
        at = await self.topology.to_read(place)
        return max([await delete_consumers(self.api, stream, _of_session(place)) for stream in at.streams])

    async def backlogs(self, place: Place) -> Sequence[Backlog]:
        return await backlogs(self.api, self.topology.home(place).stream, place)

    async def list_streams(self) -> Sequence[Mapping[str, object]]:
        """Return the info of each session stream as JetStream gives it."""
        return await self.topology.infos()


def check_streams(streams: int | None) -> None:
    """Raise `InvalidRequest` for a number of streams that cannot share the shards evenly."""
    if streams is not None and streams not in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        raise InvalidRequest(f"{streams} streams cannot share 256 buckets.", hint="Use a power of two up to 256.")


def _of_session(place: Place) -> dict[str, str]:
    return {"tenant": place.tenant, "session": place.session}
