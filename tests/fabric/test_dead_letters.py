"""Inputs that no agent could answer: found across sessions, asked again, let go."""

from __future__ import annotations

import pytest
from session_fabric import AgentRun, Fabric, RunFailed, Session
from session_fabric.agents import MOST_GENERATIONS
from session_fabric.dead_letters import BUCKET, bury
from session_fabric.outcomes import settle
from session_fabric.serving import Agent
from session_fabric.words.errors import Forbidden, InvalidRequest

from tests.fabric.test_agents import ended, events, say, served
from tests.support.waiting import eventually


def failing(fabric: Fabric, pool: str = "default") -> tuple[Agent, list[str]]:
    """Make an agent that fails at what is in the list that is returned."""
    hard = ["hard"]

    @fabric.agent(pool=pool, retries=1)
    async def handler(run: AgentRun) -> None:
        if run.input.text in hard:
            raise KeyError("private")
        await run.text(f"{run.input.text}: done")

    return handler, hard


def of(fabric: Fabric, name: str) -> Session:
    return fabric.view(participant="user:ada").session(name)


async def fail(fabric: Fabric, name: str, **more: object) -> str:
    run = await say(of(fabric, name), "hard", **more)  # type: ignore[arg-type]
    assert (await ended(of(fabric, name), run)).body["code"] == "dead_letter"
    return run


async def test_what_failed_for_good_is_listed_with_when_and_why_oldest_first(fabric: Fabric) -> None:
    agent, _ = failing(fabric)
    async with served(agent):
        runs = [await fail(fabric, name) for name in ("one", "two")]
        await ended(of(fabric, "three"), await say(of(fabric, "three"), "easy"))
    first, second = await fabric.dead_letters()
    assert [(first.session, first.run), (second.session, second.run)] == [("one", runs[0]), ("two", runs[1])]
    assert (first.pool, first.message, first.attempts, first.cause) == ("default", "q1", 2, "KeyError")
    asked, end = [e for e in await events(of(fabric, "one")) if e.type in ("message.user", "RUN_ERROR")]
    assert (first.input, first.since, first.why) == (str(asked.offset), end.ts, end.body["message"])
    assert [letter.session for letter in await fabric.dead_letters(limit=1)] == ["one"]


@pytest.mark.needs_rights
async def test_dead_letters_are_listed_by_pool_and_within_the_tenant(fabric: Fabric) -> None:
    billing, _ = failing(fabric, "billing")
    agent, _ = failing(fabric)
    async with served(agent, billing):
        await fail(fabric, "one")
        await fail(fabric, "two", pool="billing")
    assert [(d.session, d.pool) for d in await fabric.dead_letters("billing")] == [("two", "billing")]
    assert await fabric.dead_letters("sales") == []
    assert await fabric.view(tenant="other").dead_letters() == []


async def test_a_dead_letter_that_is_retried_is_answered_once_by_its_pool_and_listed_no_more(fabric: Fabric) -> None:
    agent, hard = failing(fabric, "billing")
    async with served(agent):
        await fail(fabric, "one", pool="billing")
        (letter,) = await fabric.dead_letters()
        hard.clear()
        first = await letter.retry()
        assert (await letter.retry()) == (first.offset, True)
        assert await fabric.dead_letters() == []

        async def answered() -> bool:
            return any(m.content == "hard: done" for m in (await of(fabric, "one").messages()).messages)

        await eventually(answered, 20)
    kinds = [e.type for e in await events(of(fabric, "one"))]
    assert (kinds.count("message.regenerate"), kinds.count("RUN_STARTED")) == (1, 2)


async def test_a_retry_that_fails_for_good_is_a_dead_letter_again(fabric: Fabric) -> None:
    agent, _ = failing(fabric)
    async with served(agent):
        await fail(fabric, "one")
        (letter,) = await fabric.dead_letters()
        await letter.retry()

        async def again() -> bool:
            return [d.message for d in await fabric.dead_letters()] == ["q1"]

        await eventually(again, 20)
    assert (await fabric.dead_letters())[0].run != letter.run


async def test_a_dead_letter_is_let_go_by_dropping_it_and_with_its_session(fabric: Fabric) -> None:
    agent, _ = failing(fabric)
    async with served(agent):
        for name in ("one", "two"):
            await fail(fabric, name)
    dropped, _ = await fabric.dead_letters()
    await dropped.drop()
    await dropped.drop()
    assert [d.session for d in await fabric.dead_letters()] == ["two"]
    await of(fabric, "two").delete()
    assert await fabric.broker.bucket(BUCKET).entries(fabric.tenant) == []


async def test_a_run_that_was_to_be_a_dead_letter_and_ended_otherwise_is_none(fabric: Fabric) -> None:
    session = of(fabric, "one")
    agent = fabric.session("one")
    run = agent.run("r1")
    with pytest.raises(RunFailed):
        async with run as writing:
            await bury(agent._parts, "default", "r1", writing.claim, "q1")
            assert await fabric.dead_letters() == []
            raise RunFailed("for another reason")
    assert len(await fabric.broker.bucket(BUCKET).entries(fabric.tenant)) == 1
    assert await fabric.dead_letters() == []
    assert await fabric.broker.bucket(BUCKET).entries(fabric.tenant) == []
    assert [e.body["code"] for e in await events(session) if e.type == "RUN_ERROR"] == ["RunFailed"]


async def test_a_hand_over_that_failed_cannot_be_retried(fabric: Fabric) -> None:
    @fabric.agent()
    async def front(run: AgentRun) -> None:
        await run.session.floor().offer("pool:billing", "hard")

    billing, _ = failing(fabric, "billing")
    async with served(front, billing):
        await say(of(fabric, "one"), "help")
        (letter,) = await eventually(fabric.dead_letters, 20)
    assert (letter.message, letter.pool) == (None, "billing")
    with pytest.raises(InvalidRequest, match="no message"):
        await letter.retry()


async def test_users_see_no_dead_letters_and_the_limit_has_bounds(fabric: Fabric) -> None:
    with pytest.raises(Forbidden):
        await fabric.view(participant="user:ada").dead_letters()
    with pytest.raises(InvalidRequest, match="1 to 1000"):
        await fabric.dead_letters(limit=0)


async def test_what_every_process_was_lost_at_is_a_dead_letter_too(fabric: Fabric) -> None:
    run, parts = await say(of(fabric, "one"), "hard"), fabric.session("one")._parts
    (asked,) = [e for e in await events(of(fabric, "one")) if e.type == "message.user"]
    begun: dict[str, object] = {"type": "RUN_STARTED", "run": run, "pool": "default", "input": str(asked.offset)}
    claim = await settle(parts, run, begun)
    lost = {"type": "run.orphaned", "run": run, "generation": MOST_GENERATIONS, "holder": "dead"}
    await settle(parts, run, lost, expect=claim.offset.sequence)
    agent, hard = failing(fabric)
    hard.clear()
    async with served(agent):
        await ended(of(fabric, "one"), run)
    (letter,) = await fabric.dead_letters()
    assert (letter.run, letter.message, letter.attempts) == (run, "q1", MOST_GENERATIONS)
    assert (letter.cause, letter.why) == (None, "Every agent that worked on this was lost.")
