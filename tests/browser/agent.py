"""A scripted agent: the test says what it writes, and when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

from session_fabric import Event, Fabric, Run, Session

from tests.support.waiting import eventually

PARTICIPANT = "agent:scribe"
# Bytes that are easily lost: pairs of surrogates, joiners, right-to-left; and no Markdown.
WORDS = [
    "wire",
    "offset",
    "naïve",
    "日本語",
    "👩\u200d🚀",
    "𝔘nicode",
    "שלום",
    "été",
    "🏳️\u200d🌈",
    "zero\u200dwidth",
    "“q”",
]


def long_text(paragraphs: int, seed: int = 7) -> str:
    """Make a text of numbered paragraphs, about 300 characters each."""
    chance = random.Random(seed)
    return "\n\n".join(
        f"{number}: " + " ".join(chance.choice(WORDS) for _ in range(40)) + "." for number in range(paragraphs)
    )


def pieces(text: str, seed: int = 3) -> Iterator[str]:
    """Cut a text as models do: a few characters at a time."""
    chance = random.Random(seed)
    at = 0
    while at < len(text):
        size = chance.randint(1, 12)
        yield text[at : at + size]
        at += size


class Scribe:
    """Writes one message in one run; the test lets it go on to a given share of the text, and waits for it."""

    def __init__(self, session: Session, text: str, *, pace_s: float = 0.002) -> None:
        self.text = text
        self.run: Run | None = None
        self._session = session
        self._pace_s = pace_s
        self._limit = 0.0
        self._written = 0
        self._go_on = asyncio.Event()

    def until(self, share: float) -> None:
        """Allow it to write up to this share of the text."""
        self._limit = share
        self._go_on.set()

    async def has_written(self, share: float) -> None:
        await eventually(lambda: self._written >= share * len(self.text), 60.0)

    async def write(self) -> None:
        async with self._session.run() as run:
            self.run = run
            for piece in pieces(self.text):
                while self._written >= self._limit * len(self.text):
                    self._go_on.clear()
                    await self._go_on.wait()
                await run.text(piece)
                self._written += len(piece)
                await asyncio.sleep(self._pace_s)  # a model's pace, so that it is still writing when things happen


@asynccontextmanager
async def scribe(session: Session, text: str) -> AsyncIterator[Scribe]:
    """Let an agent answer; its run has ended when the block is left."""
    writer = Scribe(session, text)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(writer.write())
        try:
            yield writer
        except BaseException:
            task.cancel()
            raise
        writer.until(1.0)


async def question(fabric: Fabric, session: str, *, after: int = 0) -> Event:
    """Wait for a user's message, the first but `after`."""
    async with asyncio.timeout(30.0), aclosing(fabric.session(session).follow("start")) as events:
        async for event in events:
            if event.type == "message.user":
                if after == 0:
                    return event
                after -= 1
    raise AssertionError("the session ended")
