"""Whose turn it is: who sends much does not keep others from being answered, or from being sent what they wait for."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

# Frames that are taken up in one turn of the loop, whoever sent them. One costs 50 to 150 microseconds.
_A_TURN: Final = 8


class Rota:
    """Gives out turns in the order in which they are asked for, so many a turn of the loop."""

    def __init__(self, a_turn: int = _A_TURN) -> None:
        self._a_turn = a_turn
        self._left = a_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    async def turn(self) -> None:
        """Return when it is one's turn: at once where few ask. Cancelled: the turn is the next one's."""
        self._schedule()
        if self._left and not self._waiting:
            self._left -= 1
            return
        mine: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(mine)
        await mine

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """A new turn of the loop has begun."""
        self._scheduled = False
        self._left = self._a_turn
        while self._waiting and self._left:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(None)
                self._left -= 1
        if self._waiting:
            self._schedule()
