"""Answers what remote brokers ask: looks whether it is theirs, and does it with the fabric's rights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from session_fabric.history import Read
from session_fabric.ports import Broker
from session_fabric.relay.asked import Asked, operations_of
from session_fabric.relay.buckets import Buckets
from session_fabric.relay.durables import Durables
from session_fabric.relay.news import News, Passes
from session_fabric.relay.reading import Reading
from session_fabric.relay.rights import Rights
from session_fabric.relay.writing import Writing
from session_fabric.spelling import read_place, spell_record
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import new_id
from session_fabric.words.packing import pack, unpack


class Relay:
    """One process's; `instance` names it to those who have something in hand here.

    `on_read` hears who has read how much of logs.
    """

    def __init__(
        self, broker: Broker, passes: Passes, on_read: Callable[[Rights, Read], None] = lambda _rights, _read: None
    ) -> None:
        self._broker = broker
        self._news = News(passes)
        self._unhook = broker.on_connection(lambda _: self._news.gap())
        self.instance = new_id()
        self._durables = Durables(broker)
        self._buckets = Buckets(broker)
        parts = (self, Reading(broker.log, on_read), Writing(broker, self.instance), self._buckets)
        self._operations = {name: answer for part in parts for name, answer in operations_of(part).items()}

    async def close(self) -> None:
        self._unhook()
        await self._news.close()
        await self._durables.close()

    async def look_again(self) -> None:
        """Pass on no more what is not granted any more."""
        await self._news.look_again()

    async def answer(self, rights: Rights, op: str, data: bytes) -> bytes:
        """Return the answer to a request. Raises what the request is refused or has failed with."""
        operation = self._operations.get(op)
        if operation is None:
            raise InvalidRequest(f"{op!r:.40} is nothing that can be asked.", hint="Is the SDK newer than the fabric?")
        head, blobs = unpack(data)
        if not isinstance(head, dict):
            raise InvalidRequest("A request's head is an object.", hint="Use the SDK.")
        return await operation(Asked(rights, head, blobs))

    async def on_hello(self, _: Asked) -> bytes:
        return pack({"instance": self.instance})

    async def on_signal(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.signal(place, asked.blob)
        await self._broker.signals.send(place, asked.blob)
        return pack(None)

    async def on_news(self, asked: Asked) -> bytes:
        place = None if asked.head.get("place") is None else read_place(asked.head["place"])
        await self._news.open(asked.rights, asked.text("id"), place, asked.head.get("subjects"))
        return pack(self.instance)

    async def on_news_keep(self, asked: Asked) -> bytes:
        return pack(await self._news.keep(asked.rights, asked.head.get("ids")))

    async def on_news_leave(self, asked: Asked) -> bytes:
        await self._news.leave(asked.rights, asked.text("id"))
        return pack(None)

    async def on_durables(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)
        return pack(list(await self._broker.durables(place)))

    async def on_durables_delete(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)
        return pack(await self._broker.delete_durables(place))

    async def on_durable(self, asked: Asked) -> bytes:
        await self._durables.open(asked.rights, asked.text("id"), asked.head)
        return pack(self.instance)

    async def on_fetch(self, asked: Asked) -> bytes:
        limit = asked.number("limit", 1000)
        found = await self._durables.fetch(asked.rights, asked.text("id"), limit, asked.seconds())
        told, blobs = list[Any](), list[bytes]()
        for number, delivery in found:
            await self._broker.log.whole(delivery.place, delivery.record)
            spelled, bytes_of = spell_record(delivery.record)
            told.append([number, delivery.attempts, *spelled])
            blobs += bytes_of
        return pack(told, blobs)

    async def on_settle(self, asked: Asked) -> bytes:
        delay_s = asked.head.get("delay_s")
        await self._durables.settle(
            asked.rights,
            asked.text("id"),
            asked.number("number"),
            asked.text("how"),
            float(delay_s) if isinstance(delay_s, (int, float)) else 0.0,
        )
        return pack(None)

    async def on_rest(self, asked: Asked) -> bytes:
        await self._durables.rest(asked.rights, asked.text("id"))
        return pack(None)

    async def on_leave(self, asked: Asked) -> bytes:
        await self._durables.leave(asked.rights, asked.text("id"))
        return pack(None)

    async def on_lag(self, asked: Asked) -> bytes:
        return pack(list(await self._durables.lag(asked.rights, asked.head)))

    async def on_forget(self, asked: Asked) -> bytes:
        await self._durables.forget(asked.rights, asked.head)
        return pack(None)
