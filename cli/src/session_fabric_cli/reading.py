"""Whether anybody still reads what is printed."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def while_read() -> AsyncIterator[None]:
    """End the block with `BrokenPipeError` as soon as whoever read our output has left, as `head` does.

    Without it that is noticed when the next line is printed, which may be never. Only a pipe says so; for a terminal,
    a file or a socket the block goes on.
    """
    pipe = _pipe()
    if pipe is None:
        yield
        return
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as left:

            def leave() -> None:  # of the end that is written to, only an error makes it readable
                loop.remove_reader(pipe)
                left.reschedule(loop.time())

            loop.add_reader(pipe, leave)
            try:
                yield
            finally:
                loop.remove_reader(pipe)
    except TimeoutError as error:
        if not left.expired():
            raise
        raise BrokenPipeError(errno.EPIPE, "Nobody reads the output any more.") from error


def _pipe() -> int | None:
    try:
        fd = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return None
    return fd if stat.S_ISFIFO(os.fstat(fd).st_mode) else None
