"""How much work JSON is before it is read: who sends millions of values is told so, and nobody else waits for it."""

from __future__ import annotations

import asyncio
from typing import Final

from session_fabric.words.errors import TooLarge

# Reading so many takes about 5 ms, in which nobody else has a turn; three million, which fit into a body, 150 ms.
MOST_VALUES: Final = 100_000
# Looked at in one turn of the loop: a millisecond where it is all short strings.
_SLICE_BYTES: Final = 64 * 1024


class Weighing:
    """Counts the commas outside of strings in JSON that comes in parts; `what` it is, in what is said of it.

    What is no JSON is left to who reads it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._commas = 0
        self._within = 0
        # The backslash that the last part ended with: what it escapes is in the next one.
        self._escape = b""

    async def add(self, data: bytes) -> None:
        """Look at what comes next. Raises `TooLarge` when there are more than `MOST_VALUES` values by then."""
        for at in range(0, len(data), _SLICE_BYTES):
            self._add(data[at : at + _SLICE_BYTES])
            await asyncio.sleep(0)

    def _add(self, data: bytes) -> None:
        data = self._escape + data
        odd = (len(data) - len(data.rstrip(b"\\"))) % 2
        data, self._escape = data[: len(data) - odd], data[len(data) - odd :]
        parts = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        # Every other part lies within a string.
        self._commas += sum(part.count(b",") for part in parts[self._within :: 2])
        self._within = (self._within + len(parts) - 1) % 2
        if self._commas >= MOST_VALUES:
            raise TooLarge(
                f"{self._what} has more than {MOST_VALUES} JSON values.",
                hint="Send what is large as text (Base64, CSV, JSON in a string), or in several events.",
                limit=MOST_VALUES,
            )


async def weigh(data: bytes, what: str) -> None:
    """Look at JSON that is all there: see `Weighing`. What is short cannot have so many values."""
    if len(data) > MOST_VALUES:
        await Weighing(what).add(data)
