"""A caller who is cancelled at each place in turn where what he calls waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from itertools import count
from typing import Any, Literal

# As the call begins to wait, or in the turn in which what it waits for comes.
When = Literal["at once", "together"]


class _Waits:
    """A call that counts how often it waits, and has its task cancelled when it does so for the `at`th time."""

    def __init__(self, call: Awaitable[Any], at: int, when: When) -> None:
        self._call = call
        self._at = at
        self._when = when
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        going: Any = self._call.__await__()
        step, given = going.send, None
        while True:
            try:
                waited_for = step(given)
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self.waits == self._at:
                self._cut(waited_for)
            try:
                given = yield waited_for
                step = going.send
            except BaseException as error:
                step, given = going.throw, error

    def _cut(self, waited_for: asyncio.Future[Any] | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._when == "together" and waited_for is not None:
            waited_for.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)


async def cut(call: Callable[[], Awaitable[Any]], at: int, when: When) -> bool:
    """Make a call whose caller is cancelled where it waits for the `at`th time; False: it does not wait so often."""
    waits = _Waits(call(), at, when)

    async def make() -> None:
        await waits

    made = await asyncio.gather(asyncio.create_task(make()), return_exceptions=True)
    if waits.waits < at:
        assert made == [None], made
        return False
    assert isinstance(made[0], asyncio.CancelledError), f"cancelled at {at}, {when}: {made[0]!r}"
    return True


async def cut_everywhere(call: Callable[[], Awaitable[Any]], when: When, then: Callable[[], Awaitable[None]]) -> None:
    """Make a call over and over, cut one place later each time, whole in the end; look each time what `then` is."""
    for at in count(1):
        was_cut = await cut(call, at, when)
        await then()
        if not was_cut:
            return
