"""Being told to end: what was made is put in order first, whenever that is."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_ENDS: Final = (signal.SIGTERM, signal.SIGINT)


def hold() -> None:
    """Have those who tell us to end wait, until `run` has begun."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)


def run(life: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. Told to end it is cancelled, and once only: a second time would cut short its cleaning up.

    Raises `CancelledError` then.
    """

    async def guarded() -> T:
        loop, task, told = asyncio.get_running_loop(), asyncio.current_task(), False

        def end() -> None:
            nonlocal told
            if not told and task is not None:
                told = True
                task.cancel()

        for number in _ENDS:
            loop.add_signal_handler(number, end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
        return await life

    return asyncio.run(guarded())


async def wholly(call: Callable[..., T], *arguments: Any) -> T:
    """Call it in a thread. Cancelled, it is waited for all the same: what it uses is not taken from under it."""
    doing: Awaitable[T] = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.gather(doing, return_exceptions=True)
        raise
