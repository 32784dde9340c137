"""A gateway that lives through it: a process of its own, what it holds, and what it has logged."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import jwt
import psutil
from session_fabric_gateway.codes import STATUS

from tests.fuzz import effort
from tests.fuzz.target import MOST_TOLD_BYTES
from tests.gateway.processes import GatewayProcess, gateway_process
from tests.gateway.sockets import greeted, user_message
from tests.support.waiting import eventually

SECRET: Final = "a secret of thirty-two bytes or more, for tests alone"
# Who asks is not held to any rate: nothing is to be left out because there was so much of it.
_SCOPES: Final = {
    "connection": ("operations", "appends", "bytes", "opens", "history", "refusals"),
    "participant": (
        "operations",
        "appends",
        "bytes",
        "opens",
        "history",
        "requests",
        "connections",
        "open_connections",
    ),
    "program": ("operations", "appends", "bytes", "opens", "history", "requests", "connections", "open_connections"),
    "tenant": ("operations", "appends", "bytes", "opens", "history", "requests", "connections", "open_connections"),
    "address": ("connections", "requests", "strangers"),
}
_LIMITS: Final = [f"--limit={scope}.{name}=none" for scope, names in _SCOPES.items() for name in names]
# How much a process that leaks nothing may grow once it is warm, whatever the number of rounds: what the allocator
# keeps, and caches that have an end.
MOST_GROWTH_BYTES: Final = (8 if effort.LONG else 3) * 1024 * 1024
# Tries at a time, each on a connection of its own.
AT_ONCE: Final = 16


class Held(NamedTuple):
    """What a gateway holds for its clients; nothing when all have gone."""

    connections: int
    subscriptions: int
    feeds: int
    files: int


@dataclass
class Living:
    """A gateway under fuzz; `tenant` is nobody else's."""

    process: GatewayProcess
    tenant: str
    codes: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.process.url

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def token(self, participant: str = "user:ada") -> str:
        claims = {"sub": participant, "tenant": self.tenant, "exp": int(time.time()) + 86_400}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    def told(self, code: str, size: int, what: object) -> None:
        """Take note of a refusal; fail for one that clients do not know, or that says that it is our fault."""
        self.codes[code] = self.codes.get(code, 0) + 1
        assert code in STATUS, f"{code} is no code that clients know"
        assert STATUS[code] < 500 or STATUS[code] == 503, f"{code} says that it is our fault"
        assert size < MOST_TOLD_BYTES, f"an error of {size} bytes: {what!r:.3000}"

    async def held(self) -> Held:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as response:
            text = await response.text()
        found = dict.fromkeys(("connections", "subscriptions", "feeds"), 0.0)
        for name, value in re.findall(r"^session_fabric_gateway_(\w+)(?:{[^}]*})? ([0-9.e+]+)$", text, re.MULTILINE):
            if name in found:
                found[name] += float(value)
        files = psutil.Process(self.process.process.pid).num_fds()
        return Held(*(int(value) for value in found.values()), files)

    async def settled(self, before: Held) -> None:
        """Wait until the gateway holds no more than before."""

        async def nothing_more() -> bool:
            now = await self.held()
            assert all(one <= other for one, other in zip(now, before, strict=True)), f"{now}, before {before}"
            return True

        await eventually(nothing_more, 30.0, every_s=0.2)

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.process.pid).memory_info().rss)

    async def check_serves(self) -> None:
        """Fail unless somebody who comes now is served as ever."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/readyz") as response:
            assert response.status == 200
        async with greeted(self.url, self.token()) as client:
            await client.open("after-all")
            assert (await client.append("after-all", user_message("Well?")))["op"] == "appended"

    def check_log(self) -> None:
        """Fail for an error in the log; each of its lines is an event."""
        for event in self.process.events():
            assert event["level"] not in ("error", "critical"), event
            assert "exception" not in event, event


@asynccontextmanager
async def living(broker_url: str, directory: Path) -> AsyncIterator[Living]:
    """Start a gateway, and look at it again in the end."""
    options = ("--dev-secret", SECRET, "--drain", "0", *_LIMITS)
    async with gateway_process(broker_url, directory, *options) as process:
        one = Living(process, "fuzz-" + secrets.token_hex(6))
        before = await one.held()
        yield one
        await one.settled(before)
        await one.check_serves()
        one.check_log()


async def all_of(
    tries: Iterable[tuple[str, Random]], attempt: Callable[[Random], Awaitable[None]], *, at_once: int = AT_ONCE
) -> int:
    """Make tries, some at a time; fail with the name of the first one that failed. Return how many there were."""
    left, made = iter(tries), 0

    async def some() -> None:
        nonlocal made
        for said, random in left:
            try:
                await attempt(random)
            except Exception as error:
                error.add_note(f"the try {said}")
                raise
            made += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())
    return made


async def check_memory(one: Living, batch: Callable[[int], Awaitable[int]], batches: int) -> dict[str, Any]:
    """Make batches of as many tries each; fail if the process grows on once the first ones have made it warm."""
    sizes, before = [], await one.held()
    for number in range(batches):
        await batch(number)
        await one.settled(before)
        sizes.append(one.resident_bytes())
    growth = sizes[-1] - sizes[batches // 2 - 1]
    assert growth < MOST_GROWTH_BYTES, f"it grows by {growth} bytes: {sizes}"
    return {"resident_bytes": sizes}
