"""The broker of those who have no rights at the broker: `ports.Broker` over the fabric's relay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from session_fabric.jetstream.calls import JetStreamCalls
from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.dial import Dial
from session_fabric.jetstream.live import Tapped
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Requests
from session_fabric.ports import BUCKETS, Backlog, Departure, Listening, Wanted
from session_fabric.remote.buckets import RemoteBucket
from session_fabric.remote.durable import RemoteDurable
from session_fabric.remote.link import Link
from session_fabric.remote.log import RemoteLog
from session_fabric.remote.news import Heard, News
from session_fabric.remote.records import Known
from session_fabric.spelling import spell_wanted
from session_fabric.words.closing import Closed
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place, answers_prefix, holder_of, inbox_prefix


class RemoteSignals:
    def __init__(self, link: Link, connection: Connection, news: News) -> None:
        self._link = link
        self._connection = connection
        self._news = news

    async def send(self, place: Place, data: bytes) -> None:
        if self._connection.ended:
            raise Closed
        if self._connection.is_connected:  # ambient: what cannot go now is not worth keeping
            await self._link.ask("signal", {"place": list(place)}, [data], timeout_s=1.0, again=False)

    async def listen(self, place: Place, sink: Callable[[bytes], None]) -> Tapped | Heard:
        return await self._news.hear(place, [place.signals()], lambda _s, _r, _h, payload: sink(payload))


class Unheard:
    """What is never told: who else departs is the fabric's own affair."""

    async def close(self) -> None:
        """Nothing was begun."""


class RemoteBroker:
    """Keeps the promises of `session_fabric.ports.Broker` for one participant of one tenant.

    `may_mend` is false: what others have left behind is put in order by those who have the rights.
    """

    may_mend = False

    def __init__(self, dial: Dial, tenant: str, participant: str, sessions: tuple[str, ...] | None) -> None:
        connection = dial.connection
        self._dial = dial
        self.holder = dial.holder
        self._inbox = inbox_prefix(tenant, participant)
        self._requests = Requests(connection)
        self._asking = Requests(connection)
        self._link = link = Link(self._requests, tenant, participant, dial.token)
        known = Known()
        self._news = news = News(link, connection, self._inbox, sessions, dial.gap)
        self.log = RemoteLog(link, news, known)
        dial.on_connection(lambda _: self.log.homes.forget())
        self.signals = RemoteSignals(link, connection, news)
        self.calls = JetStreamCalls(connection, self._asking)
        self._buckets = {name: RemoteBucket(name, link, news, known) for name in BUCKETS}

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        tenant: str,
        participant: str,
        credentials: Credentials,
        sessions: tuple[str, ...] | None = None,
        name: str = "session-fabric",
        timeout_s: float = 10.0,
    ) -> RemoteBroker:
        """Connect with rights of one's own alone. `sessions`: whose news one may hear (None: the whole tenant's).

        Raises `BrokerUnavailable`, `BrokerRefused` (the credentials are not accepted), and what the relay says to a
        first question: `Unauthenticated`, `TokenExpired`, `Forbidden`.
        """
        dial = Dial(url, credentials, name, holder_of(tenant, participant))
        broker = cls(dial, tenant, participant, sessions)
        async with dial.connecting(timeout_s, broker._requests, broker._asking):
            await broker._requests.open(f"{broker._inbox}.{broker.holder}", new_id)
            await broker._asking.open(answers_prefix(broker.holder), new_id)
            await broker._link.ask("hello", {}, timeout_s=timeout_s)
        return broker

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

    async def on_departure(self, sink: Callable[[Departure], None]) -> Listening:
        return Unheard()

    async def ping(self, timeout_s: float = 2.0) -> float:
        return await self._dial.ping(timeout_s)

    async def close(self) -> None:
        await self._news.close()
        await self._dial.close()

    def bucket(self, name: str) -> RemoteBucket:
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
    ) -> RemoteDurable:
        asked = {
            "tenant": tenant,
            "name": name,
            "place": None if place is None else list(place),
            "wanted": spell_wanted(wanted),
            "ack_wait_s": ack_wait_s,
            "max_deliver": max_deliver,
            "start": start,
        }
        durable = RemoteDurable(self._link, asked)
        await durable.open()
        return durable

    async def put_blob(self, place: Place, name: str, data: bytes) -> None:
        upload, at = await self._link.upload(data)
        await self._link.ask("blob_put", {"place": list(place), "name": name, "upload": upload}, at=at)

    async def get_blob(self, place: Place, name: str) -> bytes | None:
        body, size = b"", 1
        while len(body) < size:
            asked = {"place": list(place), "name": name, "at": len(body)}
            told, blobs = await self._link.ask("blob_get", asked)
            if told is None or (not blobs[0] and told):
                return None
            body, size = body + blobs[0], int(told)
        return body

    async def blobs(self, place: Place) -> Sequence[str]:
        told, _ = await self._link.ask("blobs", {"place": list(place)})
        return [str(name) for name in told]

    async def delete_blobs(self, place: Place, names: Sequence[str] | None = None) -> int:
        told, _ = await self._link.ask("blobs_delete", {"place": list(place), "names": names and list(names)})
        return int(told)

    async def durables(self, place: Place) -> Sequence[str]:
        told, _ = await self._link.ask("durables", {"place": list(place)})
        return [str(name) for name in told]

    async def delete_durables(self, place: Place) -> int:
        told, _ = await self._link.ask("durables_delete", {"place": list(place)})
        return int(told)

    async def backlogs(self, place: Place) -> Sequence[Backlog]:
        """Others' work is its tenant's operators' to see, who have rights at the broker."""
        return ()

    async def list_streams(self) -> Sequence[Mapping[str, object]]:
        """Streams are their operator's to see."""
        return ()
