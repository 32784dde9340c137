"""Steps of a run: what a failed attempt has said is hidden when the step is made again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from session_fabric import Run, Session
from session_fabric.words.errors import InvalidRequest, RunClosed

from tests.support.sessions import stored


class Failed(Exception):
    pass


async def steps(session: Session) -> list[tuple[Any, ...]]:
    """Return the steps' events: name, attempt, how many messages they hide, or the outcome."""
    found = [event.body for event in await stored(session) if event.type.startswith("STEP_")]
    return [(b["stepName"], b["attempt"], b.get("outcome", len(b.get("supersedes", ())))) for b in found]


async def shown(session: Session) -> list[Any]:
    return [(m.content, m.status) for m in (await session.messages()).messages]


async def failing(run: Run, name: str, text: str) -> None:
    with pytest.raises(Failed):
        async with run.step(name):
            await run.text(text)
            raise Failed


async def test_a_step_is_told_of_when_it_begins_and_when_it_ends(session: Session) -> None:
    async with session.run("r1") as run:
        async with run.step("search") as step:
            assert (step.name, step.attempt) == ("search", 1)
            await run.text("Found.")
        async with run.step("search") as again:
            assert again.attempt == 1
    assert await steps(session) == [("search", 1, 0), ("search", 1, "success")] * 2
    assert await shown(session) == [("Found.", "completed")]


async def test_what_failed_attempts_have_said_is_hidden_by_the_next(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("Let me see.")
        await failing(run, "search", "half of ")
        await failing(run, "search", "another half of ")
        await failing(run, "other", "what stays, since it is not made again")
        async with run.step("search") as step:
            assert step.attempt == 3
            await run.text("the whole")
        await run.text(" There.")
    assert await shown(session) == [
        ("Let me see. There.", "completed"),
        ("what stays, since it is not made again", "completed"),
        ("the whole", "completed"),
    ]
    assert await steps(session) == [
        ("search", 1, 0),
        ("search", 1, "failed"),
        ("search", 2, 1),
        ("search", 2, "failed"),
        ("other", 1, 0),
        ("other", 1, "failed"),
        ("search", 3, 1),
        ("search", 3, "success"),
    ]
    fold = await session._parts.history.folded()
    assert [m.content for m in fold.superseded] == ["half of ", "another half of "]


async def test_messages_of_steps_within_go_with_the_step_around_them(session: Session) -> None:
    async with session.run("r1") as run:
        with pytest.raises(Failed):
            async with run.step("outer"):
                async with run.step("inner"):
                    await run.text("done within")
                raise Failed
        async with run.step("outer"), run.message("m2") as message:
            await message.text("again")
    assert await shown(session) == [("again", "completed")]


async def test_a_step_hides_nothing_of_those_that_go_on_beside_it(session: Session) -> None:
    async with session.run("r1") as run:
        other_began, failed = asyncio.Event(), asyncio.Event()

        async def one() -> None:
            with pytest.raises(Failed):
                async with run.step("one"), run.message("m1") as message:
                    await message.text("one")
                    await other_began.wait()
                    raise Failed
            failed.set()
            async with run.step("one"), run.message("m3") as message:
                await message.text("one again")

        async def two() -> None:
            async with run.step("two"), run.message("m2") as message:
                await message.text("two ")
                other_began.set()
                await failed.wait()
                await message.text("goes on")

        async with asyncio.TaskGroup() as group:
            group.create_task(one())
            group.create_task(two())
    assert sorted(await shown(session)) == [("one again", "completed"), ("two goes on", "completed")]


async def test_a_message_that_is_begun_again_under_its_id_is_shown(session: Session) -> None:
    async with session.run("r1") as run:
        for text in ("a long first try", "short"):
            try:
                async with run.step("answer"), run.message("m1") as message:
                    await message.text(text)
                    if text != "short":
                        raise Failed
            except Failed:
                pass
    assert await shown(session) == [("short", "completed")]


async def test_a_step_that_the_runs_end_cuts_off_says_no_more(session: Session) -> None:
    with pytest.raises(asyncio.CancelledError):
        async with session.run("r1") as run, run.step("search"):
            await run.text("So far")
            raise asyncio.CancelledError
    assert await steps(session) == [("search", 1, 0)]
    assert await shown(session) == [("So far", "failed")]


async def test_the_authors_own_error_is_told_when_the_run_has_ended_meanwhile(session: Session) -> None:
    async with session.run("r1") as run:
        step = run.step("late")
        await step.__aenter__()
    with pytest.raises(RunClosed):
        await run.text("too late")
    assert await step.__aexit__(Failed, Failed(), None) is None


@pytest.mark.parametrize("name", ["", "x" * 201])
async def test_a_steps_name_has_1_to_200_characters(session: Session, name: str) -> None:
    async with session.run("r1") as run:
        with pytest.raises(InvalidRequest, match="step's name"):
            run.step(name)
