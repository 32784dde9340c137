"""Wait for what must become true, with a deadline; never for time to pass."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(
    condition: Callable[[], Awaitable[T | None]], timeout_s: float = ..., *, every_s: float = ...
) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None], timeout_s: float = ..., *, every_s: float = ...) -> T: ...
async def eventually(condition: Callable[[], Any], timeout_s: float = 10.0, *, every_s: float = 0.01) -> Any:
    """Return the condition's value once it is true; fail after `timeout_s` with what was last seen.

    The condition may be async. An `AssertionError` in it means "not yet".
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen: object
        try:
            value = condition()
            seen = await value if inspect.isawaitable(value) else value
            if seen:
                return seen
        except AssertionError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout_s:g} s; last seen: {seen!r}")
        await asyncio.sleep(every_s)


@asynccontextmanager
async def responsive(limit_s: float = 1.0) -> AsyncIterator[None]:
    """Fail if the event loop was blocked for longer than this meanwhile."""
    loop = asyncio.get_running_loop()
    worst_s = 0.0

    async def watch() -> None:
        nonlocal worst_s
        while True:
            before = loop.time()
            await asyncio.sleep(0.05)
            worst_s = max(worst_s, loop.time() - before - 0.05)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert worst_s <= limit_s, f"the event loop was blocked for {worst_s:.2f} s"
