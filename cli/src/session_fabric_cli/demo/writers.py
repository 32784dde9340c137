"""Who answers: the search alone, or a language model that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from session_fabric import AgentRun
from session_fabric.authoring import Message

from session_fabric_cli.demo import answers
from session_fabric_cli.demo.acts import act
from session_fabric_cli.demo.answers import Turn
from session_fabric_cli.demo.search import Search
from session_fabric_cli.demo.wishes import enough, object_of, wish_of

TOOL = "search_docs"
# Who is asked to think takes so much longer for each word.
_THOUGHTFUL: Final = 4.0


class Answerer(Protocol):
    async def answer(self, run: AgentRun, question: str, before: Sequence[Turn]) -> None:
        """Write the answer into the run; `before` are the turns before the question, oldest first.

        Raises `RunFailed` with a sentence for the people in the session.
        """


class SearchAnswerer:
    """Quotes what the documentation says, word by word at the pace of a model; takes up what is added meanwhile."""

    def __init__(self, search: Search, pace_s: float) -> None:
        self._search = search
        self._pace_s = pace_s

    async def answer(self, run: AgentRun, question: str, before: Sequence[Turn]) -> None:
        wish = wish_of(question)
        if wish is not None and await act(run, wish, question):
            return
        pace_s = self._pace_s
        run.steers()  # from here on it listens to what is added
        async with run.message() as message:
            if wish == "think":
                pace_s *= _THOUGHTFUL
                question = object_of(question) or "Session Fabric"
                for piece in answers.spoken(f"What is asked about is {question}. I look for where it is written."):
                    await message.reasoning(piece)
                    await asyncio.sleep(pace_s)
            plan = answers.plan(question, before)
            if plan.kind == "search":
                text = await self._found(run, plan)
            else:
                text = answers.WELCOME if plan.kind == "welcome" else answers.THANKS
            await self._speak(run, message, text, pace_s)

    async def _found(self, run: AgentRun, plan: answers.Plan) -> str:
        call = await run.tool(TOOL, {"query": " ".join(plan.words)})
        hits = self._search.find(plan.words, without=plan.without)
        await call.result(answers.summary(hits))
        return answers.answer(self._search.weigh(plan.words), hits, more=bool(plan.without))

    async def _speak(self, run: AgentRun, message: Message, text: str, pace_s: float) -> None:
        """Say it word by word, and what is asked for meanwhile behind it, or no more."""
        pieces = answers.spoken(text)
        while pieces:
            for steer in run.steers():
                if enough(steer.text):
                    pieces = answers.spoken(" … That is the gist.")
                    continue
                # What is whispered is taken up too, and not let on.
                pieces += answers.spoken("\n\n" if steer.whispered else f"\n\nYou added “{steer.text}”. ")
                plan = answers.plan(steer.text, [])
                if plan.kind == "search":
                    pieces += answers.spoken(await self._found(run, plan))
            await message.text(pieces.pop(0))
            await asyncio.sleep(pace_s)
