"""Finds out what a broker does and lets us do, and leaves nothing behind: for `fabricctl doctor`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, NamedTuple

import orjson
from nats.errors import Error as NatsError

from session_fabric.jetstream.api import ApiError
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.consumers import parsed
from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.departures import SUBJECT as DEPARTURES
from session_fabric.jetstream.dial import shown
from session_fabric.jetstream.reasons import Reasons
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Lost, Nobody, NotLet
from session_fabric.ports import BUCKETS
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place, bucket_live, call_of, call_subject

_ANSWER_S: Final = 1.0
# A connection takes several ways to the broker and back.
_CONNECT_S: Final = 5.0
_HEARD_S: Final = 1.0
# No tenant's name begins so: nobody's consumers and readers are about it.
_TENANT: Final = "_doctor"
# A stream that is none: what is published for it alone is refused, and stored nowhere.
_NOWHERE: Final = {"Nats-Expected-Stream": "none-such"}

Failed = Callable[[Exception], Awaitable[None]]


class Right(NamedTuple):
    """Something that the fabric does at the broker. `held` None: the broker said neither yes nor no."""

    what: str
    subject: str
    held: bool | None
    how: Literal["publish", "subscribe"] = "publish"


class Probes:
    """Asks over a connection of its own to the broker that was named."""

    def __init__(self, broker: JetStreamBroker, credentials: Credentials | None) -> None:
        self._broker = broker
        self._connection, self._requests = broker.reached()
        self._credentials = credentials or Credentials()

    @property
    def server(self) -> Mapping[str, Any]:
        """Return what the node at which we are says of itself (INFO of the client protocol)."""
        return self._connection.server_facts

    async def rights(self, stream: str) -> list[Right]:
        """Try each right that the fabric needs, by what changes nothing."""
        try:
            heard = await self._may_subscribe()
        except BrokerUnavailable:
            heard = []  # no second connection is let in: `hears_ends` says so
        return [*await self._may_publish(stream), *heard]

    async def _may_publish(self, stream: str) -> list[Right]:
        api, place = "$JS.API", Place(_TENANT, new_id())
        nothing: Mapping[str, str] = {}
        tried: list[tuple[str, str, bytes, Mapping[str, str]]] = [
            ("look at streams", f"{api}.STREAM.INFO.{stream}", b"", nothing),
            ("list streams", f"{api}.STREAM.LIST", b"", nothing),
            ("make streams", f"{api}.STREAM.CREATE.{new_id()}", b"no JSON", nothing),
            ("change streams", f"{api}.STREAM.UPDATE.{new_id()}", b"no JSON", nothing),
            ("purge sessions", f"{api}.STREAM.PURGE.{new_id()}", b"no JSON", nothing),
            ("read from the leader", f"{api}.STREAM.MSG.GET.{stream}", b'{"seq":0}', nothing),
            ("read from any replica", f"{api}.DIRECT.GET.{stream}", b'{"seq":18446744073709551615}', nothing),
            ("list consumers", f"{api}.CONSUMER.LIST.{stream}", b"", nothing),
            ("make consumers", f"{api}.CONSUMER.CREATE.{stream}.{new_id()}", b"no JSON", nothing),
            ("look at consumers", f"{api}.CONSUMER.INFO.{stream}.{new_id()}", b"", nothing),
            ("take events", f"{api}.CONSUMER.MSG.NEXT.{stream}.{new_id()}", b'{"batch":1,"no_wait":true}', nothing),
            ("acknowledge events", f"$JS.ACK.{stream}.{new_id()}.1.1.1.1.0", b"", nothing),
            ("remove events", f"{api}.STREAM.MSG.DELETE.{new_id()}", b"no JSON", nothing),
            ("pause consumers", f"{api}.CONSUMER.PAUSE.{stream}.{new_id()}", b"{}", nothing),
            ("delete consumers", f"{api}.CONSUMER.DELETE.{stream}.{new_id()}", b"", nothing),
            ("write events", place.stored("tok", "probe", "doctor"), b"", _NOWHERE),
            ("write large bodies", place.blobs("doctor"), b"", _NOWHERE),
            ("send signals", place.signals(), b"", nothing),
            *((f"write {bucket}", f"$KV.{bucket}.{_TENANT}", b"", _NOWHERE) for bucket in BUCKETS),
            ("ask processes", call_subject(call_of(new_id(), "alive")), b"", nothing),
        ]
        return list(await asyncio.gather(*(self._tried(*one) for one in tried)))

    async def _tried(self, what: str, subject: str, payload: bytes, headers: Mapping[str, str]) -> Right:
        try:
            await self._requests.one(subject, payload, headers=headers or None, timeout_s=_ANSWER_S)
        except NotLet:
            return Right(what, subject, False)
        except Nobody:
            return Right(what, subject, True)
        except Lost:
            return Right(what, subject, None)
        return Right(what, subject, True)

    async def _may_subscribe(self) -> list[Right]:
        """Subscribe to each kind of what is told, on a connection of its own: what is refused is told to it."""
        place, refused = Place(_TENANT, new_id()), list[str]()
        wanted = [
            ("hear what is stored", place.live_filter()),
            ("hear signals", place.signals()),
            ("be asked by processes", call_subject(call_of(new_id(), "alive"))),
            *((f"hear what changes in {bucket}", f"{bucket_live(bucket)}.{_TENANT}") for bucket in BUCKETS),
        ]

        async def failed(error: Exception) -> None:
            refused.append(str(error).lower())

        async with self._another(f"doctor-{new_id()}", failed) as other:
            for _, subject in wanted:
                await other.tap(subject, lambda *_: None)
            await other.tap_now(wanted[0][1], lambda *_: None)  # an answer to this comes behind those to all before it
        refusals = " ".join(refused)
        return [Right(what, subject, f'"{subject.lower()}"' not in refusals, "subscribe") for what, subject in wanted]

    async def republishes(self) -> bool:
        """Say whether what is stored is told live: one event of a tenant that is none is written, heard and purged.

        Raises `ApiError` where it is not stored.
        """
        place, heard = Place(_TENANT, new_id()), asyncio.Event()
        home = self._broker.topology.home(place)
        number = await self._connection.tap_now(place.live_filter(), lambda *_: heard.set())
        try:
            subject = place.stored("tok", "probe", "doctor")
            # Should we end before it is purged, it goes by itself.
            reply = await self._requests.one(subject, b"", headers={"Nats-TTL": "1s"}, timeout_s=_ANSWER_S)
            answer = orjson.loads(reply.payload)
            if "error" in answer:
                raise ApiError(answer["error"], subject)
            async with asyncio.timeout(_HEARD_S):
                await heard.wait()
        except TimeoutError:
            return False
        finally:
            await self._connection.untap(number)
            await self._broker.api.call(f"STREAM.PURGE.{home.stream}", {"filter": place.stored_filter()})
        return True

    async def hears_ends(self) -> bool:
        """Say whether the broker tells us of connections that end: one of our own is ended to see.

        Raises `BrokerUnavailable` where it lets in no second one.
        """
        name, heard = f"doctor-{new_id()}", asyncio.Event()

        def arrived(_: bytes, __: bytes, ___: bytes, payload: bytes) -> None:
            if name.encode() in payload:
                heard.set()

        number = await self._connection.tap_now(DEPARTURES, arrived)
        try:
            async with self._another(name):
                pass
            async with asyncio.timeout(_HEARD_S):
                await heard.wait()
        except TimeoutError:
            return False
        finally:
            await self._connection.untap(number)
        return True

    @asynccontextmanager
    async def _another(self, name: str, failed: Failed | None = None) -> AsyncIterator[Connection]:
        """Make a connection, and end it. Raises `BrokerUnavailable` where none is let in."""
        other, reasons, url = Connection(), Reasons(), self._broker.url

        async def told(error: Exception) -> None:
            reasons.add(error)
            if failed is not None:
                await failed(error)

        try:
            async with asyncio.timeout(_CONNECT_S):
                await other.connect(
                    url.split(","), name=name, allow_reconnect=False, error_cb=told, **self._credentials.options()
                )
        except (TimeoutError, NatsError, OSError) as error:
            await other.close()
            raise reasons.error(shown(url), _CONNECT_S, error, reached=False) from error
        try:
            yield other
        finally:
            await other.close()

    async def clock_s(self, stream: str) -> float:
        """Return by how much the broker's clock is ahead of ours, to about half a round trip."""
        before = time.time()
        try:
            reply = await self._requests.one(f"$JS.API.STREAM.INFO.{stream}", b"", timeout_s=_ANSWER_S)
        except Lost as error:
            raise BrokerUnavailable("The broker did not say what time it is.") from error
        after = time.time()
        told = orjson.loads(reply.payload).get("ts", "")
        return 0.0 if not told else parsed(told).timestamp() - (before + after) / 2
