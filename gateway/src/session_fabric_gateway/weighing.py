"""How much work JSON is before it is read: who sends millions of values is told so, and nobody else waits for it."""

from __future__ import annotations

import asyncio
from typing import Final

from session_fabric.words.errors import TooLarge

# Reading so many takes about 5 ms, in which nobody else has a turn; three million, which fit into a body, 150 ms.
MOST_VALUES: Final = 100_000
# Looked at in one turn of the loop: a millisecond where it is all short strings.
_SLICE_BYTES: Final = 64 * 1024


async def weigh(data: bytes, what: str) -> None:
    """Return if JSON has at most `MOST_VALUES` commas outside of its strings. Raises `TooLarge`.

    What is short is not looked at, since it cannot have so many; what is no JSON is left to who reads it.
    """
    if len(data) <= MOST_VALUES:
        return
    commas, within, at = 0, 0, 0
    while at < len(data):
        end = at + _SLICE_BYTES
        while data[end - 1 : end] == b"\\":  # what it escapes belongs to it
            end += 1
        parts = data[at:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # Every other part lies within a string.
        commas += sum(part.count(b",") for part in parts[within::2])
        within = (within + len(parts) - 1) % 2
        if commas >= MOST_VALUES:
            raise TooLarge(
                f"{what} has more than {MOST_VALUES} JSON values.",
                hint="Send what is large as text (Base64, CSV, JSON in a string), or in several events.",
                limit=MOST_VALUES,
            )
        at = end
        await asyncio.sleep(0)
