"""Requests over one inbox: one answer, or many until an end; each with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from math import inf
from typing import Any, NamedTuple

from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from session_fabric.jetstream.receive import Connection
from session_fabric.words.closing import Closed
from session_fabric.words.delivered import Message
from session_fabric.words.errors import BrokerRefused, BrokerUnavailable, TooLarge

# One timer for all: one each, cancelled when the answer comes, would stay in the loop's heap for as long as it was to
# run, for the garbage collector to look through. An answer is found to be late by so much at most.
_SWEEP_S = 0.02


class Reply(NamedTuple):
    head: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """Return the in-line status (`NATS/1.0 404 …`), 0 when there is none."""
        if self.head[8:9] != b" ":
            return 0
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


class _Asked:
    """A request under way. `sink` has its answers; where there is none, the first one ends it. At `due`, if it has one,
    it is late."""

    __slots__ = ("done", "due", "sink", "subject", "timeout_s")

    def __init__(
        self,
        subject: str,
        done: asyncio.Future[Any],
        timeout_s: float,
        sink: Callable[[Reply], None] | None = None,
        due: float = inf,
    ) -> None:
        self.subject = subject
        self.done = done
        self.timeout_s = timeout_s
        self.sink = sink
        self.due = due

    def take(self, head: bytes, payload: bytes) -> None:
        if self.sink is not None:
            self.sink(Reply(head, payload))
        elif not self.done.done():
            if not payload and head[9:12] == b"503":
                self.done.set_exception(_nobody())
            else:
                self.done.set_result(Reply(head, payload))

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Requests:
    """The requests of one connection. A broken connection fails all that are under way, at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prefix = ""
        numbers = count(1)
        self._token: Callable[[], str] = lambda: str(next(numbers))
        # By what stands for a request in its inbox; by the whole inbox, where it has one of its own.
        self._asked: dict[bytes, _Asked] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        # None of them is late before.
        self._soonest = inf
        self._sweep: asyncio.TimerHandle | None = None
        # Answers cannot be heard: the broker does not let us listen to where they come.
        self._deaf = False

    @property
    def of_only_node(self) -> bool:
        """Say whether no replica can answer in the place of another."""
        return self._connection.at_only_node

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
        asked = self._asked.get(subject[len(self._prefix) :])
        if asked is not None:
            asked.take(head, payload)

    def fail_all(self, reason: str | None) -> None:
        """End every request under way: its answer will not come. `reason`: None when the connection was closed."""
        self._deaf = False
        for asked in list(self._asked.values()):
            asked.fail(Closed() if reason is None else Lost(reason))

    def forbid(self, what: str, subject: str) -> None:
        """End the requests that the broker has refused: to this subject, or, when we may not listen, all of them."""
        if what == "subscribe to" and subject.lower() == self._inbox.lower():
            self._deaf, subject = True, self._inbox
        for asked in list(self._asked.values()):
            if what == "subscribe to" or asked.subject.lower() == subject.lower():
                asked.fail(NotLet(what, asked.subject if what != "subscribe to" else subject))

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
            if not reply.payload and reply.status == 503:
                done.set_exception(_nobody())
                return
            try:
                if sink(reply):
                    done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        number = self._token()
        asked = _Asked(subject, done, timeout_s, take)
        await self._ask(asked, number.encode(), payload, self._prefix + number, headers)

    async def pull(
        self, subject: str, payload: bytes, sink: Callable[[Sequence[Message]], bool], *, timeout_s: float
    ) -> None:
        """Ask a consumer, and hand messages to `sink`, several at once, until it returns True or a status comes.

        Its messages keep the subject under which they are stored, so that the inbox is the request's own. Raises
        `Lost` when it takes too long.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(messages: Sequence[Message]) -> None:
            if done.done():
                return
            _, reply, head, _ = messages[0]
            if not reply and head[8:9] == b" ":  # comes by itself: what is delivered has a reply
                if head[9:12] == b"503":
                    done.set_exception(_nobody())
                else:
                    done.set_result(None)
                return
            try:
                if sink(messages):
                    done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        inbox = self._connection.new_inbox()
        tap = await self._connection.tap_many(inbox, take)
        try:
            await self._ask(_Asked(subject, done, timeout_s), inbox.encode(), payload, inbox)
        finally:
            await self._connection.untap(tap)

    async def _ask(
        self, asked: _Asked, token: bytes, payload: bytes, inbox: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._connection.check_loop()
        self._asked[token] = asked
        try:
            if self._connection.ended:
                raise Closed
            if not self._connection.is_connected:
                raise Lost("The broker is not connected.")
            if self._deaf:
                raise NotLet("subscribe to", self._inbox)
            async with asyncio.timeout(asked.timeout_s):
                # Sending waits too, when much is on its way to a broker that does not take it.
                await self._connection.publish(
                    asked.subject, payload, reply=inbox, headers=dict(headers) if headers else None
                )
                await asked.done
        except TimeoutError as error:
            raise _unanswered(asked.timeout_s) from error
        except MaxPayloadError as error:
            limit = self._connection.max_payload
            raise TooLarge(
                f"{len(payload)} bytes are over the broker's max_payload of {limit}.", limit=limit
            ) from error
        except (NatsError, OSError) as error:
            raise Lost(f"The broker connection failed: {error}.") from error
        finally:
            del self._asked[token]

    async def send(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        """Send without waiting; answers, if there are any, go to `reply`."""
        if self._connection.ended:
            raise Closed
        await self._connection.publish(subject, payload, reply=reply)

    async def one(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float
    ) -> Reply:
        """Send and return the first answer."""
        self._connection.check_loop()
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        number = self._token()
        if self._deaf or not self._connection.send(subject, self._prefix + number, payload, headers):
            return await self._one_slowly(subject, payload, headers, timeout_s)
        first: asyncio.Future[Reply] = loop.create_future()
        token, due = number.encode(), time.monotonic() + timeout_s
        self._asked[token] = _Asked(subject, first, timeout_s, None, due)
        if due < self._soonest:
            self._soonest = due
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_S, self._look_for_late, loop)
        try:
            return await first
        finally:
            del self._asked[token]

    def _look_for_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """End requests whose time is up; as long as there are any, look again.

        All are looked through when the soonest of a while ago would be late: once in a timeout, if all are answered.
        """
        self._sweep = loop.call_later(_SWEEP_S, self._look_for_late, loop) if self._asked else None
        now = time.monotonic()
        if now < self._soonest:
            return
        for asked in self._asked.values():
            if asked.due <= now:
                asked.fail(_unanswered(asked.timeout_s))
        self._soonest = min((asked.due for asked in self._asked.values() if asked.due > now), default=inf)

    async def _one_slowly(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None, timeout_s: float
    ) -> Reply:
        """The same where it cannot be sent at once: wait until it can, or say why not."""
        answers: list[Reply] = []

        def first(reply: Reply) -> bool:
            answers.append(reply)
            return True

        await self.many(subject, payload, first, headers=headers, timeout_s=timeout_s)
        return answers[0]


def _unanswered(timeout_s: float) -> Lost:
    return Lost(f"The broker did not answer within {timeout_s:g} s.")
