"""The broker's door: it asks us who may come in (auth callout), tells who is in, and shows out whom we name.

What it takes of the broker's configuration is in `server_config`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import orjson
from nats.errors import Error as NatsError

from session_fabric.jetstream.live import Tapped
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Lost, Reply, Requests
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.logs import log
from session_fabric.words.wire import needle_of

_QUESTIONS: Final = "$SYS.REQ.USER.AUTH"
# Of all who answer, one is asked.
_QUEUE: Final = "sf-auth"
# Questions under way in one process. One more is left without an answer: the server refuses, and its client comes
# again.
MOST_AT_ONCE: Final = 256
_CURVE: Final = needle_of("Nats-Server-Xkey")
# Of the account that we are in; every server answers, and nobody knows how many there are.
_WHO: Final = "$SYS.REQ.ACCOUNT.PING.CONNZ"
_OURS: Final = "$SYS.REQ.USER.INFO"
_PAGE: Final = 1024
_SERVERS_ANSWER_S: Final = 0.5
_CUT_S: Final = 2.0

# what was asked, and the server's curve key where it was sealed; None: no answer
Answer = Callable[[bytes, str], Awaitable[bytes | None]]


class Connected(NamedTuple):
    """One connection at a server, under the name that it was let in with."""

    server: str
    number: int
    user: str
    subscriptions: int


class Admissions:
    """Answers the broker's questions from `open` to `close`."""

    def __init__(self, connection: Connection, requests: Requests, answer: Answer) -> None:
        self._connection = connection
        self._requests = requests
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._tap: Tapped | None = None
        self._full = False

    async def open(self) -> None:
        """Begin to answer. Raises `BrokerUnavailable`."""
        self._tap = Tapped(self._connection, await self._connection.tap_now(_QUESTIONS, self._asked, queue=_QUEUE))

    async def account(self) -> str:
        """Return the account that we are in, where those are whom we let in. Raises `BrokerUnavailable`."""
        try:
            reply = await self._requests.one(_OURS, b"", timeout_s=_CUT_S)
            return str(orjson.loads(reply.payload)["data"]["account"])
        except (Lost, KeyError, ValueError, TypeError) as error:
            raise BrokerUnavailable("The broker did not say which account we are in.") from error

    async def close(self) -> None:
        """Answer no more; what was begun is given up."""
        if self._tap is not None:
            await self._tap.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _asked(self, _: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        full, self._full = self._full, len(self._tasks) >= MOST_AT_ONCE
        if self._full:
            if not full:
                log.warning("admissions_full", most=MOST_AT_ONCE)
            return
        start = head.find(_CURVE)
        curve = head[start + len(_CURVE) : head.find(b"\r\n", start + 2)].decode("latin-1") if start >= 0 else ""
        task = asyncio.get_running_loop().create_task(self._reply(reply.decode(), payload, curve))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, to: str, payload: bytes, curve: str) -> None:
        try:
            answer = await self._answer(payload, curve)
            if answer is not None:
                await self._connection.publish(to, answer)
        except NatsError as error:
            log.warning("admission_not_sent", error=type(error).__name__)
        except Exception as error:  # without its traceback, which would show the token
            log.error("admission_failed", error=type(error).__name__)

    async def look(self, sink: Callable[[Connected], None]) -> None:
        """Call `sink` with each connection of our account, as servers tell of them; one that is frozen tells nothing.

        Raises `BrokerUnavailable` where none does.
        """
        servers, offset, more = set[str](), 0, True
        while more:
            more, heard = False, set[str]()

            def told(reply: Reply, heard: set[str] = heard, known: frozenset[str] = frozenset(servers)) -> bool:
                nonlocal more
                page = orjson.loads(reply.payload)["data"]
                heard.add(page["server_id"])
                for one in page.get("connections") or ():
                    sink(
                        Connected(
                            page["server_id"], one["cid"], one.get("authorized_user", ""), one.get("subscriptions", 0)
                        )
                    )
                more = more or page["offset"] + len(page.get("connections") or ()) < page["total"]
                return bool(known) and heard >= known

            asked = orjson.dumps({"auth": True, "offset": offset, "limit": _PAGE, "sort": "cid"})
            try:
                await self._requests.many(_WHO, asked, told, timeout_s=_SERVERS_ANSWER_S)
            except Lost as error:
                if not heard:
                    raise BrokerUnavailable("The broker did not say who is connected.") from error
            servers |= heard
            offset += _PAGE

    async def cut(self, connected: Connected) -> None:
        """Close a connection. Raises `BrokerUnavailable`."""
        subject = f"$SYS.REQ.SERVER.{connected.server}.KICK"
        await self._requests.one(subject, orjson.dumps({"cid": connected.number}), timeout_s=_CUT_S)
