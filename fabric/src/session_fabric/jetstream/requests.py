"""Requests over one inbox: one answer, or many until an end; each with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import count
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from session_fabric.jetstream.receive import Connection
from session_fabric.words.errors import BrokerRefused, BrokerUnavailable, TooLarge


class Reply(NamedTuple):
    head: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """Return the in-line status (`NATS/1.0 404 …`), 0 when there is none."""
        digits = self.head[9:12]
        return int(digits) if digits.isdigit() else 0


class Lost(BrokerUnavailable):
    """No answer: the connection broke, nobody listened or time ran out. The request may have been carried out."""


class NotLet(BrokerRefused):
    """The broker has told that these credentials may not publish there; it answers such a request with nothing."""

    def __init__(self, what: str, subject: str) -> None:
        super().__init__(
            f"The broker does not let these credentials {what} {subject}.",
            hint="Use those of the fabric's own processes (`fabricctl broker config`), or have the account allow it.",
            subject=subject,
        )


class Nobody(Lost):
    """Nobody has subscribed to what was asked."""


def _nobody() -> Nobody:
    return Nobody("The broker has nobody to answer (no leader yet, or JetStream is off).")


class Requests:
    """The requests of one connection. A broken connection fails all that are under way, at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prefix = ""
        numbers = count(1)
        self._token: Callable[[], str] = lambda: str(next(numbers))
        self._sinks: dict[bytes, Callable[[Reply], None]] = {}
        # By inbox: what was asked where, and its end.
        self._asked: dict[str, tuple[str, asyncio.Future[None]]] = {}
        # Answers cannot be heard: the broker does not let us listen to where they come.
        self._deaf = False

    async def open(self, inbox: str | None = None, token: Callable[[], str] | None = None) -> None:
        """Begin to hear answers: at an inbox of the connection's own, each request's under a number.

        `token` makes what stands for a number where those who answer must not guess each other's.
        """
        self._prefix = (inbox or self._connection.new_inbox()) + "."
        self._token = token or self._token
        await self._connection.tap(self._inbox, self._arrived)

    @property
    def _inbox(self) -> str:
        return f"{self._prefix}*"

    def _arrived(self, subject: bytes, _reply: bytes, head: bytes, payload: bytes) -> None:
        sink = self._sinks.get(subject[len(self._prefix) :])
        if sink is not None:
            sink(Reply(head, payload))

    def fail_all(self, reason: str) -> None:
        """End every request under way: its answer will not come."""
        self._deaf = False
        for _, done in list(self._asked.values()):
            if not done.done():
                done.set_exception(Lost(reason))

    def forbid(self, what: str, subject: str) -> None:
        """End the requests that the broker has refused: to this subject, or, when we may not listen, all of them."""
        if what == "subscribe to" and subject.lower() == self._inbox.lower():
            self._deaf, subject = True, self._inbox
        for asked, done in list(self._asked.values()):
            if not done.done() and (what == "subscribe to" or asked.lower() == subject.lower()):
                done.set_exception(NotLet(what, asked if what != "subscribe to" else subject))

    async def many(
        self,
        subject: str,
        payload: bytes,
        sink: Callable[[Reply], bool],
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> None:
        """Send, and hand each answer to `sink` until it returns True. Raises `Lost` when that takes too long."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(reply: Reply) -> None:
            if done.done():
                return
            if reply.status == 503 and not reply.payload:
                done.set_exception(_nobody())
                return
            try:
                if sink(reply):
                    done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        number = self._token()
        token = number.encode()
        self._sinks[token] = take
        try:
            await self._ask(subject, payload, self._prefix + number, done, timeout_s, headers)
        finally:
            del self._sinks[token]

    async def pull(
        self, subject: str, payload: bytes, sink: Callable[[bytes, bytes, bytes, bytes], bool], *, timeout_s: float
    ) -> None:
        """Ask a consumer, and hand each message to `sink` (what a tap gets) until it returns True or a status comes.

        Its messages keep the subject under which they are stored, so that the inbox is the request's own. Raises
        `Lost` when it takes too long.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
            if done.done():
                return
            if head[8:9] == b" ":
                if head[9:12] == b"503":
                    done.set_exception(_nobody())
                else:
                    done.set_result(None)
                return
            try:
                if sink(subject, reply, head, payload):
                    done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        inbox = self._connection.new_inbox()
        tap = await self._connection.tap(inbox, take)
        try:
            await self._ask(subject, payload, inbox, done, timeout_s)
        finally:
            await self._connection.untap(tap)

    async def _ask(
        self,
        subject: str,
        payload: bytes,
        inbox: str,
        done: asyncio.Future[None],
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._asked[inbox] = subject, done
        try:
            if not self._connection.is_connected:
                raise Lost("The broker is not connected.")
            if self._deaf:
                raise NotLet("subscribe to", self._inbox)
            async with asyncio.timeout(timeout_s):
                # Sending waits too, when much is on its way to a broker that does not take it.
                await self._connection.publish(
                    subject, payload, reply=inbox, headers=dict(headers) if headers else None
                )
                await done
        except TimeoutError as error:
            raise Lost(f"The broker did not answer within {timeout_s:g} s.") from error
        except MaxPayloadError as error:
            limit = self._connection.max_payload
            raise TooLarge(
                f"{len(payload)} bytes are over the broker's max_payload of {limit}.", limit=limit
            ) from error
        except (NatsError, OSError) as error:
            raise Lost(f"The broker connection failed: {error}.") from error
        finally:
            del self._asked[inbox]

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send without waiting; answers, if there are any, go to `reply`."""
        await self._connection.publish(subject, payload, reply=reply)

    async def one(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Reply:
        """Send and return the first answer."""
        answers: list[Reply] = []

        def first(reply: Reply) -> bool:
            answers.append(reply)
            return True

        await self.many(subject, payload, first, headers=headers, timeout_s=timeout_s)
        return answers[0]
