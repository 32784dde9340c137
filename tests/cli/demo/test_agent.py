"""The demo agent over a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from session_fabric import Fabric, Run, RunFailed, Session
from session_fabric.ports import Broker
from session_fabric.rules.routing import run_of_input
from session_fabric_cli.demo.agent import DemoAgent
from session_fabric_cli.demo.answers import Turn
from session_fabric_cli.demo.search import Search
from session_fabric_cli.demo.sections import find_sections
from session_fabric_cli.demo.writers import Answerer, SearchAnswerer

from tests.support.waiting import eventually


class Parrot(Answerer):
    """Says back what it hears, when it is let."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.may = asyncio.Event()
        self.may.set()

    async def answer(self, run: Run, question: str, before: Sequence[Turn]) -> None:
        self.heard.append(question)
        await run.text("You said: ")
        await self.may.wait()
        if question == "fail":
            raise RunFailed("I was told to fail.")
        if question == "break":
            raise ZeroDivisionError
        await run.text(question)


@pytest.fixture
async def user(broker: Broker, tenant: str) -> Fabric:
    return await Fabric.over(broker, tenant=tenant, participant="user:ada")


@asynccontextmanager
async def serving(user: Fabric, answerer: Answerer) -> AsyncIterator[None]:
    """Run the agent on a user's connection and tenant."""
    ready = asyncio.Event()
    work = asyncio.ensure_future(DemoAgent(user.view(participant="agent:docs"), answerer).serve(ready.set))
    try:
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait([waiting, work], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        yield
    finally:
        work.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            await work


async def say(session: Session, text: str, id: str = "e1") -> None:
    await session.append({"type": "message.user", "message": {"id": f"m-{id}", "role": "user", "content": text}}, id=id)


async def answered(session: Session, ends: int = 1) -> list[str]:
    """Wait for so many runs to end; return the types of all events."""
    types: list[str] = []
    async with asyncio.timeout(20):
        async for event in session.follow("start"):
            types.append(event.type)
            ends -= event.type in ("RUN_FINISHED", "RUN_ERROR")
            if not ends:
                break
    return types


async def texts(session: Session) -> list[str]:
    return [m.content for m in (await session.messages()).messages if m.role == "assistant"]


async def test_a_question_is_answered_with_a_visible_search_and_sources(user: Fabric) -> None:
    session = user.session("chat")
    search = Search(find_sections())
    async with serving(user, SearchAnswerer(search, 0.0)):
        await say(session, "What does close code 4408 mean?")
        types = await answered(session)
    search.close()
    assert "TOOL_CALL_START" in types
    assert types.index("TOOL_CALL_RESULT") < types.index("message.completed")
    [message] = [m for m in (await session.messages()).messages if m.role == "assistant"]
    assert "slow consumer" in message.content
    assert [call.name for call in message.tool_calls] == ["search_docs"]


async def test_what_was_asked_before_the_agent_came_is_answered(user: Fabric) -> None:
    session = user.session("chat")
    await say(session, "early")
    async with serving(user, Parrot()):
        await answered(session)
    assert await texts(session) == ["You said: early"]


async def test_questions_of_one_session_are_answered_one_after_another(user: Fabric) -> None:
    session, parrot = user.session("chat"), Parrot()
    parrot.may.clear()
    async with serving(user, parrot):
        await say(session, "one", "e1")
        await say(session, "two", "e2")
        await eventually(lambda: parrot.heard)
        assert parrot.heard == ["one"]
        parrot.may.set()
        await answered(session, 2)
    assert await texts(session) == ["You said: one", "You said: two"]


async def test_sessions_do_not_wait_for_each_other(user: Fabric) -> None:
    parrot = Parrot()
    parrot.may.clear()
    async with serving(user, parrot):
        for name in ("a", "b", "c"):
            await say(user.session(name), name)
        await eventually(lambda: len(parrot.heard) == 3)
        parrot.may.set()
        for name in ("a", "b", "c"):
            await answered(user.session(name))


async def test_a_cancelled_answer_keeps_what_was_written_and_the_next_one_comes(user: Fabric) -> None:
    session, parrot = user.session("chat"), Parrot()
    parrot.may.clear()
    async with serving(user, parrot):
        await say(session, "one", "e1")
        await eventually(lambda: parrot.heard)
        await session.control("cancel", run=run_of_input("e1"))
        await answered(session)
        parrot.may.set()
        await say(session, "two", "e2")
        await answered(session, 2)
    assert await texts(session) == ["You said: ", "You said: two"]


@pytest.mark.parametrize(("text", "shown"), [("fail", "I was told to fail."), ("break", "The agent failed.")])
async def test_a_failed_answer_is_shown_and_the_next_one_comes(user: Fabric, text: str, shown: str) -> None:
    session = user.session("chat")
    async with serving(user, Parrot()):
        await say(session, text, "e1")
        await say(session, "two", "e2")
        await answered(session, 2)
    errors = [e.body["message"] for e in (await session.history()).events if e.type == "RUN_ERROR"]
    assert errors == [shown]
    assert (await texts(session))[-1] == "You said: two"


async def test_an_answered_question_that_comes_again_is_not_answered_again(user: Fabric) -> None:
    session, parrot = user.session("chat"), Parrot()
    async with user.view(participant="agent:docs").session("chat").run(run_of_input("e1")) as run:
        await run.text("Answered by one that died before it could say so.")
    await say(session, "one", "e1")
    async with serving(user, parrot):
        await say(session, "two", "e2")
        await answered(session, 2)
    assert parrot.heard == ["two"]


@asynccontextmanager
async def searching(user: Fabric, pace_s: float = 0.0) -> AsyncIterator[Session]:
    search = Search(find_sections())
    async with serving(user, SearchAnswerer(search, pace_s)):
        yield user.session("chat")
    search.close()


async def asked(session: Session) -> str:
    """Wait for what a run asks of participants; return its id."""

    async def first() -> str | None:
        found = await session.requests()
        return found[0].request if found else None

    return await eventually(first)


@pytest.mark.parametrize(("approved", "end"), [(True, "It is done."), (False, "left everything as it was.")])
async def test_what_is_to_be_deleted_somebody_has_to_approve(user: Fabric, approved: bool, end: str) -> None:
    async with searching(user) as session:
        await say(session, "Delete the old drafts")
        request = await asked(session)
        await session.answer(request, {"approved": approved, "comment": "sure"})
        await answered(session)
        [text] = await texts(session)
    assert "user:ada" in text
    assert "“sure”" in text
    assert text.endswith(end)


@pytest.mark.parametrize(
    ("question", "tool", "result", "shown"),
    [
        ("What do you know about this page?", "read_page", {"viewport": {"width": 390, "height": 700}}, "390 by 700"),
        ("What have I selected?", "read_selection", {"text": "a needle"}, "2 words"),
        ("What have I selected?", "read_selection", {"text": ""}, "nothing"),
    ],
)
async def test_the_page_of_who_asks_is_read(
    user: Fabric, question: str, tool: str, result: dict[str, object], shown: str
) -> None:
    async with searching(user) as session:
        await say(session, question)
        request = await asked(session)
        [open_one] = await session.requests()
        assert (open_one.body["tool"], open_one.to) == (tool, "user:ada")
        await session.answer(request, result)
        await answered(session)
        [text] = await texts(session)
    assert shown in text


async def test_who_wants_a_person_is_offered_to_operators(user: Fabric) -> None:
    async with searching(user) as session:
        await say(session, "I want to talk to a human")
        await answered(session)
        [offer] = [e for e in (await session.history()).events if e.type == "handoff.offered"]
        assert (offer.body["to"], offer.body["note"]) == ("role:operator", "I want to talk to a human")
        eve = user.view(participant="operator:eve").session("chat").floor()
        assert (await eve.accept(offer.id)).participant == "operator:eve"


async def test_what_is_added_while_it_thinks_is_answered_too(user: Fabric) -> None:
    async with searching(user, 0.005) as session:
        await say(session, "Think about close codes")
        run = run_of_input("e1")
        await eventually(lambda: begun(session))
        await session.control("steer", run=run, body={"text": "What is a mark?"})
        await answered(session)
        [text] = await texts(session)
    assert "You added “What is a mark?”." in text


async def begun(session: Session) -> bool:
    return any(m.role == "assistant" and m.content for m in (await session.messages()).messages)
