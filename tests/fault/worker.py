"""An agent's process: it says what an input's text asks for, token by token, and asks people in the middle of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
from session_fabric import AgentRun, Fabric
from session_fabric.words.errors import RequestExpired, ToolFailed, Unavailable

from tests.fault.process import Part
from tests.system.agent import answer, token

_IDLE_S = 4.0
_DEADLINE_S = 8.0


@dataclass(frozen=True)
class Plan:
    """What an answer is to be: so many tokens, one every `pace_s`; in the middle it asks (`approval`, `tool`)."""

    tokens: int
    pace_s: float
    asks: str = ""

    def text(self) -> str:
        return orjson.dumps([self.tokens, self.pace_s, self.asks]).decode()

    @classmethod
    def of(cls, text: str) -> Plan:
        return cls(*orjson.loads(text))

    def answer(self) -> str:
        return answer(self.tokens)


async def work(part: Part) -> None:
    """Serve the pool until killed."""
    async with Fabric.connect(part.broker, participant=f"agent:{part.host}", timeout_s=60.0) as fabric:
        part.journal.note("holder", holder=fabric.broker.holder)

        @fabric.agent(takeover="continue", concurrency=8, idle_s=_IDLE_S)
        async def answers(run: AgentRun) -> None:
            plan = Plan.of(run.input.text)
            said, done = 0, run.said
            while done:
                piece = token(said)
                if len(done) < len(piece):  # a token may have been stored in part
                    await run.text(piece[len(done) :])
                    said, done = said + 1, ""
                    break
                said, done = said + 1, done[len(piece) :]
            for number in range(said, plan.tokens):
                if number == plan.tokens // 2:
                    await _ask(run, plan.asks)
                await run.text(token(number))
                await asyncio.sleep(plan.pace_s)

        await part.ready()
        while True:
            try:
                return await fabric.serve()
            except* Unavailable:  # not there at the beginning: as whatever looks after processes does, begin again
                part.journal.note("serves again")


async def _ask(run: AgentRun, what: str) -> None:
    """Ask, and go on whatever the answer is: also when nobody gives one."""
    try:
        if what == "approval":
            await run.approve("Go on?", to="role:operator", deadline_s=_DEADLINE_S, default=True)
        elif what == "tool":
            await run.client_tool("where", {}, deadline_s=_DEADLINE_S)
    except (RequestExpired, ToolFailed):
        pass
