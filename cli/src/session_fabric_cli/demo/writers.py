"""Who answers: the search alone, or a language model that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from session_fabric import Run

from session_fabric_cli.demo import answers
from session_fabric_cli.demo.answers import Turn
from session_fabric_cli.demo.search import Search

TOOL = "search_docs"


class Answerer(Protocol):
    async def answer(self, run: Run, question: str, before: Sequence[Turn]) -> None:
        """Write the answer into the run; `before` are the turns before the question, oldest first.

        Raises `RunFailed` with a sentence for the people in the session.
        """


class SearchAnswerer:
    """Quotes what the documentation says, word by word at the pace of a model."""

    def __init__(self, search: Search, pace_s: float) -> None:
        self._search = search
        self._pace_s = pace_s

    async def answer(self, run: Run, question: str, before: Sequence[Turn]) -> None:
        plan = answers.plan(question, before)
        async with run.message() as message:
            if plan.kind == "search":
                call = await run.tool(TOOL, {"query": " ".join(plan.words)})
                hits = self._search.find(plan.words, without=plan.without)
                await call.result(answers.summary(hits))
                text = answers.answer(self._search.weigh(plan.words), hits, more=bool(plan.without))
            else:
                text = answers.WELCOME if plan.kind == "welcome" else answers.THANKS
            for piece in answers.spoken(text):
                await message.text(piece)
                await asyncio.sleep(self._pace_s)
