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
    subject: bytes = b""  # where it was sent to, when that is not our inbox
    reply: bytes = b""

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


class Requests:
    """The requests of one connection. A broken connection fails all that are under way, at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prefix = ""
        numbers = count(1)
        self._token: Callable[[], str] = lambda: str(next(numbers))
        self._sinks: dict[bytes, Callable[[Reply], None]] = {}
        self._failures: dict[bytes, asyncio.Future[None]] = {}
        self._subjects: dict[bytes, str] = {}

    async def open(self, inbox: str | None = None, token: Callable[[], str] | None = None) -> None:
        """Begin to hear answers: at an inbox of the connection's own, each request's under a number.

        `token` makes what stands for a number where those who answer must not guess each other's.
        """
        self._prefix = (inbox or self._connection.new_inbox()) + "."
        self._token = token or self._token
        await self._connection.tap(self._prefix + "*", self._arrived)

    def _arrived(self, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        sink = self._sinks.get(subject[len(self._prefix) :])
        if sink is not None:
            sink(Reply(head, payload, subject, reply))

    def fail_all(self, reason: str) -> None:
        """End every request under way: its answer will not come."""
        for future in list(self._failures.values()):
            if not future.done():
                future.set_exception(Lost(reason))

    def forbid(self, what: str, subject: str) -> None:
        """End the requests that the broker has refused: to this subject, or, when we may not listen, all of them."""
        for token, future in list(self._failures.items()):
            asked = self._subjects.get(token, "")
            if not future.done() and (what == "subscribe to" or asked.lower() == subject.lower()):
                future.set_exception(NotLet(what, asked if what != "subscribe to" else subject))

    async def many(
        self,
        subject: str,
        payload: bytes,
        sink: Callable[[Reply], bool],
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
        own_inbox: bool = False,
    ) -> None:
        """Send, and hand each answer to `sink` until it returns True. Raises `Lost` when that takes too long.

        `own_inbox`: answers that keep a subject of their own (a consumer's messages) cannot share one.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(reply: Reply) -> None:
            if done.done():
                return
            if reply.status == 503 and not reply.payload:
                done.set_exception(Nobody("The broker has nobody to answer (no leader yet, or JetStream is off)."))
                return
            try:
                if sink(reply):
                    done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        number = self._token()
        token = number.encode()
        inbox = self._prefix + number
        tap: int | None = None
        self._sinks[token] = take
        self._failures[token] = done
        self._subjects[token] = subject
        try:
            if not self._connection.is_connected:
                raise Lost("The broker is not connected.")
            if own_inbox:
                inbox = self._connection.new_inbox()
                tap = await self._connection.tap(
                    inbox, lambda subject, reply, head, payload: take(Reply(head, payload, subject, reply))
                )
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
            del self._sinks[token], self._failures[token], self._subjects[token]
            if tap is not None:
                await self._connection.untap(tap)

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
