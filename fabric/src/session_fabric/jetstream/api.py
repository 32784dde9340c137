"""JetStream's JSON API: one call, its errors told apart, and the retries that a leader's absence wants."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from session_fabric.jetstream.requests import Lost, Requests
from session_fabric.words.errors import BrokerRefused, BrokerUnavailable

# err_codes of nats-server (server/errors.json) that pass by themselves: no leader yet, no quorum, catching up, busy,
# the same id under way through another connection (10158), and a subject that moves to another stream (10060).
_PASSING = frozenset({10008, 10009, 10060, 10158, 10164})
# There are too few nodes for a stream's copies: passing where it is because one that there is cannot be reached.
_TOO_FEW = 10005
# There is no room: at the servers (503: with time there may be), in the account (400: it may be granted more), or in a
# stream of limited bytes (10077, this text).
_NO_ROOM = 10023
_ACCOUNT_FULL = 10002
# A stream is to hold more at most (max_bytes) than is left to be promised (500): of what, and where that is set.
_PROMISED = {10028: ("memory", "max_memory_store", "max_mem"), 10047: ("storage", "max_file_store", "max_file")}
# The account may not have what is to be made: what it has to be granted.
_GRANTED = {
    10026: "Raise max_consumers of the account, to 100000 or to no limit: each stream of sessions may have so many.",
    10027: "Raise max_streams of the account: 16 streams and buckets are made, and those that keep sessions.",
    10113: "Turn max_bytes_required off for the account: limits on bytes are set later, stream by stream.",
}
_STREAM_FULL = re.compile("maximum (bytes|messages) exceeded")
NOT_FOUND = frozenset({10014, 10037, 10059})
OVERLAP = 10065
WRONG_LAST_SEQUENCE = 10071


class ApiError(BrokerRefused):
    """JetStream said no. `number` is its err_code."""

    def __init__(self, error: Mapping[str, Any], subject: str) -> None:
        self.number = int(error.get("err_code", 0))
        self.status = int(error.get("code", 0))
        self.description = str(error.get("description", ""))
        super().__init__(
            f"JetStream refused {subject}: {self.description} ({self.number}).",
            hint=self.advice or "Look at the account's limits and permissions: `nats account info`.",
            number=self.number,
        )

    @property
    def advice(self) -> str:
        """Return what mends it, where that is known."""
        return self.room or _GRANTED.get(self.number, "")

    @property
    def room(self) -> str:
        """Return how to make room, where that is what is missing."""
        if self.number == _NO_ROOM:
            return "JetStream has no room left: raise max_file_store of nats-server, on a disk that has it."
        if self.number == _ACCOUNT_FULL:
            return "The account has no room left: raise its max_file (or max_mem), as `nats account info` shows them."
        if self.number in _PROMISED:
            what, server, account = _PROMISED[self.number]
            return (
                f"JetStream has less {what} left than that: raise {server} of nats-server or {account} of the account."
            )
        if _STREAM_FULL.search(self.description):
            return "The stream is full: `fabricctl stream ls` shows what each holds, `nats stream edit` gives it more."
        return ""

    @property
    def passing(self) -> bool:
        away = self.number == _TOO_FEW and "peer offline" in self.description
        return away or self.number in _PASSING or self.number == _ACCOUNT_FULL or self.status == 503


class Backoff:
    """Waits of 20 ms, doubling to 500 ms, each halved at random; ends at a deadline of `time.monotonic`.

    Not of the event loop's: to ask which one runs is a call of the kernel (Python 3.11)."""

    def __init__(self, timeout_s: float, *, only_node: bool = False) -> None:
        self.timeout_s = timeout_s
        self._only_node = only_node
        self.deadline = time.monotonic() + timeout_s
        self._next_s = 0.02
        self._growth = 1.0

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()

    def attempt_s(self, most_s: float = 2.0) -> float:
        """Return how long one try may take: never nothing, never beyond the deadline by much."""
        return max(0.05, min(most_s, self.left_s))

    def replica_s(self, first_s: float = 0.3) -> float:
        """Return how long one replica may take: `first_s`, then half as much again each time.

        A frozen or cut-off node stays among those who answer Direct Gets until its routes time out (minutes), and
        gets its share of the requests: short first tries find one that lives. Where no other can answer they would only
        be more for one that is slow to do: there each has the time of any try.
        """
        if self._only_node:
            return self.attempt_s()
        attempt_s = self.attempt_s(first_s * self._growth)
        self._growth *= 1.5
        return attempt_s

    async def wait(self) -> bool:
        """Sleep before the next try; False when time is up."""
        pause_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(0.5, self._next_s * 2)
        if self.left_s <= pause_s:
            return False
        await asyncio.sleep(pause_s)
        return True


class Api:
    """Calls of `$JS.API`, retried while the broker is without a leader or away."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    async def call(self, name: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = 5.0) -> dict[str, Any]:
        """Return the answer. Raises `ApiError`, or `BrokerUnavailable` when time is up."""
        subject = f"$JS.API.{name}"
        payload = b"" if body is None else orjson.dumps(body)
        backoff = Backoff(timeout_s)
        while True:
            try:
                reply = await self._requests.one(subject, payload, timeout_s=backoff.attempt_s())
                answer: dict[str, Any] = orjson.loads(reply.payload)
                if "error" not in answer:
                    return answer
                error: ApiError | Lost = ApiError(answer["error"], name)
                if not error.passing:  # type: ignore[union-attr]
                    break
            except Lost as lost:
                error = lost
            if not await backoff.wait():
                raise BrokerUnavailable(
                    f"JetStream did not carry out {name} within {timeout_s:g} s: {error.message}",
                    hint=getattr(error, "room", "") or "Is the broker up, with JetStream on and a leader elected?",
                ) from error
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: together they would be left to the garbage collector
