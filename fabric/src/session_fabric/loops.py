"""The event loop that something belongs to."""

from __future__ import annotations

import asyncio
import os
from threading import get_ident
from weakref import WeakSet

from session_fabric.words.errors import InvalidRequest


class OwnLoop:
    """The event loop in which it was made: what waits in another one would never be woken, or harm both."""

    __slots__ = ("__weakref__", "_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        _OF_THIS_PROCESS.add(self)

    def check(self) -> None:
        """Raise `InvalidRequest` in any other event loop."""
        # Which loop runs is not asked as long as the thread says it: that is a call of the kernel (Python 3.11), and
        # this is on the way of each event that is stored.
        if get_ident() == self._thread and self._loop.is_running():
            return
        if asyncio._get_running_loop() is not self._loop:
            raise InvalidRequest(
                "The fabric was connected in another event loop.",
                hint="Connect and use it within one `asyncio.run`. From another thread: "
                "`asyncio.run_coroutine_threadsafe(session.append(…), loop).result()`, with the loop that it was "
                "connected in. In a process that was forked: connect there.",
            )
        self._thread = get_ident()  # it goes on in another thread than before

    def forked(self) -> None:
        """Belong to no thread any more: this process has a copy of the loop, which says for ever that it runs."""
        self._thread = 0


_OF_THIS_PROCESS: WeakSet[OwnLoop] = WeakSet()


def _forked() -> None:
    for own in _OF_THIS_PROCESS:
        own.forked()


if hasattr(os, "register_at_fork"):  # where processes can be forked
    os.register_at_fork(after_in_child=_forked)
