"""Turns: nobody who sends much keeps others waiting for more than theirs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from session_fabric_gateway.rota import Rota


async def test_where_few_ask_a_turn_comes_at_once() -> None:
    rota = Rota(2)
    for _ in range(2):
        turn = rota.turn()
        with suppress(StopIteration):
            turn.send(None)
            raise AssertionError("it waited")


async def test_those_who_ask_most_take_turns_with_those_who_ask_once() -> None:
    rota = Rota(1)
    order: list[str] = []

    async def asks(name: str, times: int) -> None:
        for _ in range(times):
            await rota.turn()
            order.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(asks("much", 50))
        group.create_task(asks("once", 1))
    assert order.index("once") <= 2


async def test_a_turn_that_is_asked_for_in_vain_is_the_next_ones() -> None:
    rota = Rota(1)
    await rota.turn()
    leaves, stays = asyncio.ensure_future(rota.turn()), asyncio.ensure_future(rota.turn())
    await asyncio.sleep(0)
    leaves.cancel()
    async with asyncio.timeout(5):
        await stays
