"""The whole loop around a handler: one live agent for each input, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from session_fabric import AgentRun, Event, Fabric, RunFailed, Session
from session_fabric.desk import Desk
from session_fabric.rules.routing import run_of_input
from session_fabric.serving import Agent
from session_fabric.subscription import Work
from session_fabric.words.errors import InvalidRequest
from session_fabric.worker import Worker

from tests.support.sessions import Fabrics
from tests.support.waiting import eventually


async def say(session: Session, text: str, id: str = "q1", **more: object) -> str:
    message = {"id": id, "role": "user", "content": text}
    await session.append({"type": "message.user", "message": message, **more}, id=id)
    return run_of_input(id)


async def events(session: Session) -> list[Event]:
    return (await session.history(limit=1000)).events


async def ended(session: Session, run: str) -> Event:
    async def end() -> Event | None:
        return next(
            (e for e in await events(session) if e.run == run and e.type in ("RUN_FINISHED", "RUN_ERROR")), None
        )

    return await eventually(end, 20)


@asynccontextmanager
async def served(*agents: Agent) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(agent.serve()) for agent in agents]
    try:
        yield
    finally:
        for agent in agents:
            agent.stop()
        await asyncio.gather(*tasks)


def echo(fabric: Fabric, **options: object) -> Agent:
    @fabric.agent(**options)  # type: ignore[arg-type]
    async def handler(run: AgentRun) -> None:
        for word in run.input.text.split():
            await run.text(f"{word} ")

    return handler


@pytest.fixture
def ada(fabric: Fabric) -> Session:
    return fabric.view(participant="user:ada").session("chat-1")


async def test_what_is_asked_is_answered_once_in_a_run_of_a_known_name(fabric: Fabric, ada: Session) -> None:
    async with served(echo(fabric)):
        run = await say(ada, "one two")
        await ended(ada, run)
    said = (await ada.messages()).messages
    assert [(m.actor, m.content) for m in said] == [("user:ada", "one two"), ("agent:writer", "one two ")]
    started = [e for e in await events(ada) if e.type == "RUN_STARTED"]
    assert [(e.run, e.body["pool"], e.body["message"]) for e in started] == [(run, "default", "q1")]


async def test_what_was_asked_before_an_agent_was_there_is_answered(fabric: Fabric, ada: Session) -> None:
    runs = [await say(ada, f"n {n}", f"q{n}") for n in range(3)]
    async with served(echo(fabric)):
        for run in runs:
            await ended(ada, run)
    started = [e.run for e in await events(ada) if e.type == "RUN_STARTED"]
    assert started == runs


async def test_of_two_workers_of_a_pool_one_answers_and_keeps_the_session(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    ada = one.view(participant="user:ada").session("chat-1")
    async with served(echo(one), echo(two)):
        for n in range(6):
            await ended(ada, await say(ada, f"n {n}", f"q{n}"))
        holders = {e.body["holder"] for e in await events(ada) if e.type == "RUN_STARTED"}
    assert len(holders) == 1
    assert len([e for e in await events(ada) if e.type == "RUN_STARTED"]) == 6


@pytest.mark.needs_rights
async def test_of_two_workers_who_reach_for_a_session_at_once_one_holds_it_and_every_input_is_answered(
    fabrics: Fabrics,
) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    sessions = [one.view(participant="user:ada").session(f"chat-{n}") for n in range(12)]
    async with served(echo(one), echo(two)):
        runs = await asyncio.gather(*(say(s, f"n {n}", f"{s.name}.{n}") for s in sessions for n in range(3)))
        for number, session in enumerate(sessions):
            for run in runs[number * 3 : number * 3 + 3]:
                await ended(session, run)
        holdings = sessions[0]._parts.common.holdings
        held = [h.place for h in await holdings.of() if h.kind == "floor" and h.place.tenant == one.tenant]
    assert sorted(held) == sorted(session.place for session in sessions)


async def test_many_sessions_are_answered_at_once_up_to_the_limit(fabric: Fabric) -> None:
    running, most = 0, 0
    release = asyncio.Event()

    @fabric.agent(concurrency=3)
    async def slow(run: AgentRun) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    sessions = [fabric.view(participant="user:ada").session(f"chat-{n}") for n in range(5)]
    async with served(slow):
        runs = [await say(session, "x", f"q{n}") for n, session in enumerate(sessions)]
        await eventually(lambda: running == 3)
        release.set()
        for session, run in zip(sessions, runs, strict=True):
            await ended(session, run)
    assert most == 3


async def test_a_worker_takes_no_more_sessions_than_it_can_answer_where_another_is_free(fabrics: Fabrics) -> None:
    workers = [await fabrics.open() for _ in range(3)]
    running: list[int] = []
    release = asyncio.Event()

    def slow(number: int) -> Agent:
        @workers[number].agent(concurrency=2)
        async def handler(run: AgentRun) -> None:
            running.append(number)
            await release.wait()

        return handler

    sessions = [workers[0].view(participant="user:ada").session(f"chat-{n}") for n in range(6)]
    async with served(*(slow(number) for number in range(3))):
        runs = [await say(session, "x", f"q{n}") for n, session in enumerate(sessions)]
        await eventually(lambda: sorted(running) == [0, 0, 1, 1, 2, 2])
        release.set()
        for session, run in zip(sessions, runs, strict=True):
            await ended(session, run)


async def test_a_handler_that_fails_is_called_again_and_what_it_said_is_hidden(fabric: Fabric, ada: Session) -> None:
    @fabric.agent(retries=2)
    async def third_time(run: AgentRun) -> None:
        await run.text(f"attempt {run.attempt}")
        if run.attempt < 3:
            raise ValueError("not yet")

    async with served(third_time):
        end = await ended(ada, await say(ada, "x"))
    assert end.type == "RUN_FINISHED"
    steps = [e.body["attempt"] for e in await events(ada) if e.type == "STEP_STARTED"]
    assert steps == [2, 3]


async def test_a_handler_that_fails_once_too_often_is_a_dead_letter(fabric: Fabric, ada: Session) -> None:
    @fabric.agent(retries=1)
    async def never(run: AgentRun) -> None:
        raise ValueError("secret")

    async with served(never):
        end = await ended(ada, await say(ada, "x"))
    assert (end.type, end.body["code"], end.body["attempts"]) == ("RUN_ERROR", "dead_letter", 2)
    assert "secret" not in str(end.body)


async def test_a_handler_that_gives_up_is_not_called_again(fabric: Fabric, ada: Session) -> None:
    calls = 0

    @fabric.agent(retries=5)
    async def refuses(run: AgentRun) -> None:
        nonlocal calls
        calls += 1
        raise RunFailed("Not today.")

    async with served(refuses):
        end = await ended(ada, await say(ada, "x"))
    assert (calls, end.body["message"]) == (1, "Not today.")


def gate(fabric: Fabric, release: asyncio.Event, *, steerable: bool = False) -> tuple[Agent, list[str]]:
    """Return an agent that waits in its first run, and what it was steered with."""
    steered: list[str] = []

    @fabric.agent()
    async def handler(run: AgentRun) -> None:
        if steerable:
            run.steers()
        await run.text(f"{run.input.text}: ")
        if run.input.text == "first":
            await release.wait()
        steered.extend(steer.text for steer in run.steers()) if steerable else None
        await run.text("done")

    return handler, steered


async def running(session: Session, count: Callable[[list[Event]], bool]) -> None:
    async def there() -> bool:
        return count(await events(session))

    await eventually(there)


def has(type: str) -> Callable[[list[Event]], bool]:
    return lambda found: any(e.type == type for e in found)


def began(number: int) -> Callable[[list[Event]], bool]:
    return lambda found: sum(e.type == "TEXT_MESSAGE_CONTENT" for e in found) >= number


async def test_a_message_that_comes_meanwhile_waits_by_default(fabric: Fabric, ada: Session) -> None:
    release = asyncio.Event()
    agent, _ = gate(fabric, release)
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        second = await say(ada, "second", "q2")
        release.set()
        await ended(ada, first)
        await ended(ada, second)
    order = [(e.type, e.run) for e in await events(ada) if e.type in ("RUN_STARTED", "RUN_FINISHED")]
    assert order == [("RUN_STARTED", first), ("RUN_FINISHED", first), ("RUN_STARTED", second), ("RUN_FINISHED", second)]


async def test_a_message_may_interrupt_what_is_under_way(fabric: Fabric, ada: Session) -> None:
    agent, _ = gate(fabric, asyncio.Event())
    await fabric.session("chat-1").set_policy(when_busy="interrupt")
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        second = await say(ada, "second", "q2")
        assert (await ended(ada, first)).body["outcome"] == {"type": "cancelled"}
        assert (await ended(ada, second)).body["outcome"] == {"type": "success"}


async def test_a_message_may_steer_what_is_under_way(fabric: Fabric, ada: Session) -> None:
    release = asyncio.Event()
    agent, steered = gate(fabric, release, steerable=True)
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        await say(ada, "shorter", "q2", when_busy="steer")
        await running(ada, lambda found: any(e.type == "message.steered" for e in found))
        release.set()
        await ended(ada, first)
    assert steered == ["shorter"]
    (event,) = [e for e in await events(ada) if e.type == "message.steered"]
    assert (event.body["message"], event.body["run"]) == ("q2", first)
    assert [e.run for e in await events(ada) if e.type == "RUN_STARTED"] == [first]


async def test_a_message_may_be_rejected_while_an_agent_is_at_work(fabric: Fabric, ada: Session) -> None:
    release = asyncio.Event()
    agent, _ = gate(fabric, release)
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        await say(ada, "second", "q2", when_busy="reject")
        await running(ada, lambda found: any(e.type == "message.rejected" for e in found))
        release.set()
        await ended(ada, first)
    (event,) = [e for e in await events(ada) if e.type == "message.rejected"]
    assert (event.body["message"], event.body["reason"]) == ("q2", "busy")


async def test_a_message_may_be_answered_beside_what_is_under_way(fabric: Fabric, ada: Session) -> None:
    release = asyncio.Event()
    agent, _ = gate(fabric, release)
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        second = await say(ada, "second", "q2", when_busy="concurrent")
        await ended(ada, second)
        release.set()
        await ended(ada, first)


async def test_where_the_policy_is_strict_a_message_cannot_have_it_otherwise(fabric: Fabric, ada: Session) -> None:
    release = asyncio.Event()
    agent, _ = gate(fabric, release, steerable=True)
    await fabric.session("chat-1").set_policy(strict=True)
    async with served(agent):
        runs = [await say(ada, "first", "q1")]
        await running(ada, began(1))
        for number, way in enumerate(("concurrent", "interrupt", "steer", "reject"), 2):
            runs.append(await say(ada, way, f"q{number}", when_busy=way))
        release.set()
        for run in runs:
            assert (await ended(ada, run)).body["outcome"] == {"type": "success"}
    order = [(e.type, e.run) for e in await events(ada) if e.type in ("RUN_STARTED", "RUN_FINISHED")]
    assert order == [(type, run) for run in runs for type in ("RUN_STARTED", "RUN_FINISHED")]


async def test_who_is_overruled_by_a_strict_policy_is_told_what_he_had_asked_for(fabric: Fabric, ada: Session) -> None:
    release = asyncio.Event()
    agent, steered = gate(fabric, release, steerable=True)
    chat = fabric.session("chat-1")
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        for number, (way, outcome) in enumerate((("reject", "message.rejected"), ("steer", "message.steered")), 2):
            await chat.set_policy(when_busy=way, strict=True)
            await say(ada, "now", f"q{number}", when_busy="concurrent")
            await running(ada, has(outcome))
        release.set()
        await ended(ada, first)
    assert steered == ["now"]
    told = {e.type: e.body["asked"] for e in await events(ada) if "asked" in e.body}
    assert told == {"message.rejected": "concurrent", "message.steered": "concurrent"}


async def test_a_redirect_is_carried_out_where_the_policy_is_strict(fabric: Fabric, ada: Session) -> None:
    agent, _ = gate(fabric, asyncio.Event())
    await fabric.session("chat-1").set_policy(when_busy="reject", strict=True)
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        await ada.control(
            "redirect", run=first, body={"message": {"id": "q2", "role": "user", "content": "this instead"}}, id="c1"
        )
        assert (await ended(ada, first)).body["outcome"] == {"type": "cancelled"}
        await ended(ada, run_of_input("c1.instead"))
    assert (await ada.messages()).messages[-1].content == "this instead: done"


async def test_a_redirect_is_answered_instead(fabric: Fabric, ada: Session) -> None:
    agent, _ = gate(fabric, asyncio.Event())
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        instead = {"id": "q2", "role": "user", "content": "this instead"}
        await ada.control("redirect", run=first, body={"message": instead}, id="c1")
        assert (await ended(ada, first)).body["outcome"] == {"type": "cancelled"}
        await ended(ada, run_of_input("c1.instead"))
    assert (await ada.messages()).messages[-1].content == "this instead: done"


async def test_a_worker_that_is_told_to_stop_lets_its_runs_end(fabric: Fabric, ada: Session) -> None:
    release = asyncio.Event()
    agent, _ = gate(fabric, release)
    serving = asyncio.create_task(agent.serve())
    first = await say(ada, "first", "q1")
    await running(ada, began(1))
    agent.stop()
    assert not serving.done()
    release.set()
    await serving
    assert (await ended(ada, first)).body["outcome"] == {"type": "success"}
    assert (await ada.floor().state()).participant is None


async def test_a_worker_that_may_not_wait_leaves_its_runs_to_others(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    ada = one.view(participant="user:ada").session("chat-1")

    @one.agent(stop_s=0.05)
    async def stuck(run: AgentRun) -> None:
        await run.text("half of ")
        await asyncio.Event().wait()

    @two.agent(takeover="continue")
    async def goes_on(run: AgentRun) -> None:
        assert run.resumed
        await run.text(f"it (after {run.said!r})")

    serving = asyncio.create_task(stuck.serve())
    first = await say(ada, "first", "q1")
    await running(ada, began(1))
    async with served(goes_on):
        stuck.stop()
        await serving
        end = await ended(ada, first)
    assert end.body["outcome"] == {"type": "success"}
    assert (await ada.messages()).messages[-1].content == "half of it (after 'half of ')"


async def test_while_a_person_has_the_floor_agents_do_not_answer(fabric: Fabric, ada: Session) -> None:
    eve = fabric.view(participant="operator:eve").session("chat-1")
    agent, _ = gate(fabric, asyncio.Event())
    async with served(agent):
        first = await say(ada, "first", "q1")
        await running(ada, began(1))
        state = await eve.floor().take("I know this one")
        assert (state.participant, state.human) == ("operator:eve", True)
        assert (await ended(ada, first)).body["reason"] == "handoff"
        await say(ada, "second", "q2")
        await eve.floor().say("It is me")
        await eve.floor().give_back()
        third = await say(ada, "third", "q3")
        await ended(ada, third)
    said = [(m.actor, m.content) for m in (await ada.messages()).messages]
    assert ("operator:eve", "It is me") in said
    assert ("agent:writer", "third: done") in said
    assert ("agent:writer", "second: done") not in said


async def test_what_was_asked_of_a_person_stays_the_persons_though_an_agent_hears_of_it_later(
    fabric: Fabric, ada: Session
) -> None:
    eve = fabric.view(participant="operator:eve").session("chat-1")
    await ada.create()
    await eve.floor().take()
    person = await say(ada, "second", "q2")
    await eve.floor().give_back()
    async with served(echo(fabric)):
        await ended(ada, await say(ada, "third", "q3"))
    assert person not in {e.run for e in await events(ada)}


async def test_a_pool_that_is_offered_the_floor_answers_from_then_on(fabric: Fabric, ada: Session) -> None:
    @fabric.agent()
    async def sales(run: AgentRun) -> None:
        if run.input.text == "refund":
            await run.session.floor().offer("pool:billing", "wants a refund")
        await run.text(f"sales: {run.input.text}")

    @fabric.agent(pool="billing")
    async def billing(run: AgentRun) -> None:
        await run.text(f"billing: {run.input.text}")

    async def said(text: str) -> bool:
        return any(m.content == text for m in (await ada.messages()).messages)

    async with served(sales, billing):
        await ended(ada, await say(ada, "hello", "q1"))
        await say(ada, "refund", "q2")
        await eventually(lambda: said("billing: wants a refund"), 20)
        assert (await ada.floor().state()).delegate == "billing"
        await say(ada, "how much?", "q3")
        await eventually(lambda: said("billing: how much?"), 20)
    assert not await said("sales: how much?")


async def offering(run: AgentRun) -> None:
    if run.input.text.isdecimal():
        await run.session.floor().offer("role:operator", "help", deadline_ms=int(run.input.text))


async def types(session: Session) -> list[str]:
    return [e.type for e in await events(session) if e.type.startswith(("floor.", "handoff."))]


async def test_an_idle_agent_keeps_the_floor_while_it_is_offered_to_somebody(fabric: Fabric, ada: Session) -> None:
    other = fabric.view(participant="user:ada").session("chat-2")
    async with served(fabric.agent(idle_s=0.2)(offering)):
        await ended(ada, await say(ada, "60000"))
        for number in range(2):  # is idle for less long, and leaves
            await ended(other, await say(other, "nothing", f"n{number}"))
            await eventually(lambda: released(other), 20)
        assert await types(ada) == ["floor.claimed", "handoff.offered"]
        offered = next(e for e in await events(ada) if e.type == "handoff.offered")
        eve = fabric.view(participant="operator:eve").session("chat-1")
        assert (await eve.floor().accept(offered.id)).participant == "operator:eve"


async def released(session: Session) -> bool:
    return (await types(session))[-1] == "floor.released"


async def test_an_idle_agent_leaves_when_its_offer_was_declined(fabric: Fabric, ada: Session) -> None:
    async with served(fabric.agent(idle_s=0.2)(offering)):
        await ended(ada, await say(ada, "60000"))
        offered = next(e for e in await events(ada) if e.type == "handoff.offered")
        await fabric.view(participant="operator:eve").session("chat-1").floor().decline(offered.id)
        await eventually(lambda: released(ada), 20)
    assert await types(ada) == ["floor.claimed", "handoff.offered", "handoff.declined", "floor.released"]


async def test_an_idle_agents_offer_expires_at_its_deadline_and_then_the_agent_leaves(
    fabric: Fabric, ada: Session
) -> None:
    async with served(fabric.agent(idle_s=1.0)(offering)):
        await ended(ada, await say(ada, "1500"))
        await eventually(lambda: released(ada), 20)
    assert await types(ada) == ["floor.claimed", "handoff.offered", "handoff.expired", "floor.released"]


async def test_an_agent_that_is_about_to_leave_finds_what_was_asked_and_did_not_reach_it(
    fabric: Fabric, ada: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told(self: Worker, work: Work, group: asyncio.TaskGroup) -> bool:
        return True

    async with served(echo(fabric, idle_s=1.0)):
        await ended(ada, await say(ada, "one"))
        # Whoever was rung was told that the input is heard at the desk; and the live path lost it.
        monkeypatch.setattr(Worker, "_see_to", told)
        monkeypatch.setattr(Desk, "heard", lambda self, record: None)
        await ended(ada, await say(ada, "two", "q2"))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"concurrency": 0}, "concurrency"), ({"retries": -1}, "retries"), ({"takeover": "x"}, "takeover")],
)
def test_a_wrong_option_is_named(fabric: Fabric, options: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        fabric.agent(**options)  # type: ignore[arg-type]
