"""A gateway that is sent whatever it may be answers what clients know, goes on serving, and keeps nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import effort, requests, sockets
from tests.fuzz.living import Living, all_of, check_memory, living
from tests.support.servers import NatsNode

Attempt = Callable[[Living, Random], Awaitable[None]]
# Batches of tries: the first half makes the gateway warm.
_BATCHES = 6
_KINDS = [("sockets", sockets.attempt, 30), ("requests", requests.attempt, 60)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "attempt", "short"), _KINDS, ids=[kind[0] for kind in _KINDS])
async def test_a_gateway_lives_through_what_strangers_send_and_does_not_grow(
    name: str, attempt: Attempt, short: int, own_server: NatsNode, tmp_path: Path
) -> None:
    async with living(own_server.url, tmp_path) as one:

        async def batch(number: int) -> int:
            share = effort.SOCKETS / len(_KINDS) / _BATCHES
            return await all_of(effort.tries(f"{name}-{number}", short, share), lambda random: attempt(one, random))

        print(await check_memory(one, batch, _BATCHES), one.codes)
    assert len(one.codes) > 8, f"tries that meet so few refusals try little: {one.codes}"
