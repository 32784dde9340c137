"""Answering those who have no rights at the broker but to ask: at one of several processes, or at this very one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from nats.errors import Error as NatsError

from session_fabric.jetstream.live import Tapped
from session_fabric.jetstream.receive import Connection
from session_fabric.words.errors import FabricError, RateLimited
from session_fabric.words.logs import log
from session_fabric.words.packing import pack_error
from session_fabric.words.subjects import inbox_prefix, parse_service, services_at
from session_fabric.words.wire import needle_of

# Requests under way in one process; those above are told to come again.
MOST_AT_ONCE: Final = 1024
TOKEN: Final = "Sf-Token"
_TOKEN: Final = needle_of(TOKEN)
_MOST_TOLD: Final = 1000

# tenant, participant, token, operation, what was sent
Answer = Callable[[str, str, str, str, bytes], Awaitable[bytes]]


class Services:
    """Hears requests and sends each one's answer to the inbox of whoever asked, and nowhere else."""

    def __init__(self, connection: Connection, answer: Answer) -> None:
        self._connection = connection
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._taps: list[Tapped] = []
        # Of whom it was told that they ask with others' inboxes.
        self._told: set[tuple[str, str]] = set()

    async def open(self, instance: str) -> None:
        """Begin to answer: what is asked of anybody, shared with others, and what is asked of `instance`."""
        for subject, queue in ((services_at(None), "sf-svc"), (services_at(instance), "")):
            self._taps.append(
                Tapped(self._connection, await self._connection.tap_now(subject, self._asked, queue=queue))
            )

    async def close(self) -> None:
        for tap in self._taps:
            await tap.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _asked(self, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        try:
            tenant, participant, op = parse_service(subject.decode())
            to = reply.decode()
        except UnicodeDecodeError:
            return  # nobody of ours asks so, and there is no inbox to answer it to
        # What we send is sent with our rights: to a stream's subject, or to another's inbox, it would be obeyed.
        if not to.startswith(f"{inbox_prefix(tenant, participant)}."):
            if (tenant, participant) not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add((tenant, participant))  # once: it can ask as fast as bytes go
                log.warning("asked_with_a_foreign_inbox", tenant=tenant, participant=participant, op=op)
            return
        start = head.find(_TOKEN)
        token = head[start + len(_TOKEN) : head.find(b"\r\n", start + 2)].decode("latin-1") if start >= 0 else ""
        task = asyncio.get_running_loop().create_task(self._reply(to, tenant, participant, token, op, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, to: str, tenant: str, participant: str, token: str, op: str, payload: bytes) -> None:
        try:
            if len(self._tasks) > MOST_AT_ONCE:
                raise RateLimited("The fabric has too much to answer.", hint="Try again.", retry_after_ms=200)
            answer = await self._answer(tenant, participant, token, op, payload)
        except FabricError as error:
            answer = pack_error(error)
        except Exception as error:  # without its traceback, which would show what was said and by which token
            log.error("service_failed", op=op, error=type(error).__name__)
            answer = pack_error(FabricError("The fabric could not answer.", hint="Its log says why."))
        try:
            await self._connection.publish(to, answer)
        except NatsError as error:
            log.warning("answer_not_sent", op=op, error=type(error).__name__)
