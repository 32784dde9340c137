"""What a run asks of participants: asked once, answered once, by those it is addressed to, or over in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from session_fabric import Answer, Appended, Approval, Fabric, Request, Run, Session
from session_fabric.endings import agent_lost, end_run
from session_fabric.opening import OpenRun
from session_fabric.outcomes import Lost, settle
from session_fabric.parts import Parts
from session_fabric.ports import Wanted
from session_fabric.requests import now_ms
from session_fabric.rules.bounds import MOST_OPEN_ASKS
from session_fabric.rules.questions import MAX_BODY_BYTES
from session_fabric.run import Takeover
from session_fabric.words.errors import (
    AlreadyAnswered,
    AlreadyClaimed,
    BrokerUnavailable,
    Forbidden,
    IdConflict,
    InvalidName,
    InvalidRequest,
    RequestClosed,
    RequestExpired,
    RequestNotFound,
    SessionNotFound,
    TooLarge,
    ToolFailed,
)
from session_fabric.words.events import RUN_FINISHED, request_outcome

from tests.support.servers import NatsNode
from tests.support.sessions import Fabrics, stored, types
from tests.support.waiting import eventually


@pytest.fixture
def ada(fabric: Fabric) -> Session:
    return fabric.view(participant="user:ada").session("chat-1")


@pytest.fixture
def bob(fabric: Fabric) -> Session:
    return fabric.view(participant="user:bob").session("chat-1")


@pytest.fixture
def oscar(fabric: Fabric) -> Session:
    return fabric.view(participant="operator:oscar").session("chat-1")


def parts_of(session: Session) -> Parts:
    return session._parts


@asynccontextmanager
async def asking(
    session: Session, ask: Callable[[Run], Awaitable[Any]], id: str = "r1"
) -> AsyncIterator[asyncio.Task[Any]]:
    """Have a run ask; the task's result is what came of it. Cancelled at the end if it still waits."""

    async def work() -> Any:
        async with session.run(id) as run:
            return await ask(run)

    await session.create()
    task = asyncio.create_task(work())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def the_one(session: Session) -> Request:
    """Wait for the one open request."""

    async def one() -> Request | None:
        found = await session.requests()
        assert len(found) <= 1, found
        return found[0] if found else None

    return await eventually(one)


def select(run: Run) -> Awaitable[Any]:
    return run.client_tool("read_selection", {"format": "text"})


def approve(run: Run) -> Awaitable[Approval]:
    return run.approve("Delete 3 files?")


# --- asking and answering -------------------------------------------------------------------------------


async def test_a_client_calls_a_tool_for_a_run_which_is_suspended_meanwhile(session: Session, ada: Session) -> None:
    async with asking(session, select) as run:
        request = await the_one(ada)
        assert (request.kind, request.tool, request.args) == ("tool", "read_selection", {"format": "text"})
        assert (request.run, request.to, request.claimed, request.deadline) == ("r1", None, None, None)
        await ada.answer(request.request, {"text": "chosen"}, device="d1")
        assert await run == {"text": "chosen"}
    events = await stored(session)
    told = [t for t in types(events) if not t.startswith("TEXT_")]
    assert told == [
        "session.created",
        "RUN_STARTED",
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "tool.requested",
        "run.suspended",
        "tool.answered",
        "run.resumed",
        "TOOL_CALL_RESULT",
        "message.completed",
        "RUN_FINISHED",
    ]
    asked = next(e for e in events if e.type == "tool.requested")
    assert asked.id == asked.body["request"] == asked.body["call"] == "r1.tool.1"
    answered = next(e for e in events if e.type == "tool.answered")
    assert (answered.actor, answered.run) == ("user:ada", "r1")
    assert answered.body == {
        "type": "tool.answered",
        "request": "r1.tool.1",
        "run": "r1",
        "by": "user:ada",
        "device": "d1",
        "result": {"text": "chosen"},
    }
    (message,) = (await session.messages()).messages
    (call,) = message.tool_calls
    assert (call.id, call.name, call.args, call.result) == (
        "r1.tool.1",
        "read_selection",
        '{"format":"text"}',
        '{"text":"chosen"}',
    )


async def test_a_tools_error_is_raised_in_the_run_and_told_as_the_calls_result(session: Session, ada: Session) -> None:
    async with asking(session, select) as run:
        await ada.answer((await the_one(ada)).request, error="Nothing is selected.")
        with pytest.raises(ToolFailed) as failed:
            await run
    assert failed.value.error == "Nothing is selected."
    assert failed.value.facts["by"] == "user:ada"
    (message,) = (await session.messages()).messages
    assert message.tool_calls[0].result == '{"error":"Nothing is selected."}'


async def test_an_approval_says_who_gave_it_and_why(session: Session, ada: Session) -> None:
    async with asking(session, approve) as run:
        await ada.answer((await the_one(ada)).request, {"approved": False, "comment": "Not on a Friday"})
        assert await run == Approval(False, "user:ada", "Not on a Friday", False)


@pytest.mark.parametrize(
    ("ask", "kind", "body"),
    [
        (lambda run: run.ask("Which size?", options=["S", "M"]), "choice", "M"),
        (lambda run: run.ask("Which size?", options=[{"id": "s", "label": "Small"}]), "choice", "s"),
        (lambda run: run.ask("Your name?", text="As in your passport"), "text", "Ada"),
        (
            lambda run: run.ask("Where to?", schema={"type": "object", "required": ["city"]}),
            "form",
            {"city": "Ulm"},
        ),
    ],
)
async def test_a_question_is_answered_with_a_choice_a_text_or_a_form(
    session: Session, ada: Session, ask: Callable[[Run], Awaitable[Any]], kind: str, body: Any
) -> None:
    async with asking(session, ask) as run:
        request = await the_one(ada)
        assert request.kind == kind
        await ada.answer(request.request, body)
        assert await run == Answer(body, "user:ada", False)


async def test_several_requests_at_a_time_suspend_a_run_once(session: Session, ada: Session) -> None:
    async def both(run: Run) -> list[Any]:
        return await asyncio.gather(run.ask("One?"), run.approve("Two?"))

    async with asking(session, both) as run:
        found = await eventually(lambda: _open(ada, 2))
        for request in found:
            await ada.answer(request.request, "yes" if request.kind == "text" else {"approved": True})
        first, second = await run
    assert (first.body, second.approved) == ("yes", True)
    told = types(await stored(session))
    assert (told.count("run.suspended"), told.count("run.resumed")) == (1, 1)


async def _open(session: Session, count: int) -> list[Request] | None:
    found = await session.requests()
    return found if len(found) == count else None


# --- exactly one answer ---------------------------------------------------------------------------------


async def test_of_200_racing_answers_exactly_one_counts_each_time_and_the_loser_is_told_who_won(
    fabrics: Fabrics,
) -> None:
    agent = await fabrics.open()
    session = agent.session("race")
    racers = [(await fabrics.open(f"user:{name}")).session("race") for name in ("ada", "bob")]
    count = 100

    async def ask(run: Run) -> list[Answer]:
        return await asyncio.gather(*(run.ask(f"Question {n}?", id=f"q{n}") for n in range(count)))

    async def race(request: str) -> tuple[str, AlreadyAnswered]:
        gave = await asyncio.gather(*(one.answer(request, "mine") for one in racers), return_exceptions=True)
        won = [n for n, result in enumerate(gave) if isinstance(result, Appended)]
        assert len(won) == 1, gave
        refused = gave[1 - won[0]]
        assert isinstance(refused, AlreadyAnswered), refused
        winner = gave[won[0]]
        assert isinstance(winner, Appended)
        assert refused.facts["offset"] == str(winner.offset)
        return ("user:ada", "user:bob")[won[0]], refused

    async with asking(session, ask) as run:
        open = await eventually(lambda: _open(session, count), 30)
        outcomes = dict(
            zip([r.request for r in open], await asyncio.gather(*(race(r.request) for r in open)), strict=True)
        )
        answers = await run
    for n, answer in enumerate(answers):
        winner, refused = outcomes[f"q{n}"]
        assert answer.by == winner == refused.facts["by"]
    answered = [e for e in await stored(session) if e.type == "input.answered"]
    assert len(answered) == count


async def test_an_answer_sent_again_from_the_same_device_is_one_answer(session: Session, ada: Session) -> None:
    async with asking(session, approve) as run:
        request = (await the_one(ada)).request
        first = await ada.answer(request, {"approved": True}, device="d1")
        again = await ada.answer(request, {"approved": True}, device="d1")
        assert (first.duplicate, again) == (False, Appended(first.offset, True))
        with pytest.raises(AlreadyAnswered) as other:
            await ada.answer(request, {"approved": False}, device="d1")
        with pytest.raises(AlreadyAnswered):
            await ada.answer(request, {"approved": True}, device="d2")
        assert (other.value.facts["by"], other.value.facts["offset"]) == ("user:ada", str(first.offset))
        assert (await run).approved


async def test_an_answers_id_tells_a_retry(session: Session, ada: Session, bob: Session) -> None:
    async with asking(session, approve) as run:
        request = (await the_one(ada)).request
        first = await ada.answer(request, {"approved": True}, id="a1")
        assert await ada.answer(request, {"approved": True}, id="a1") == Appended(first.offset, True)
        with pytest.raises(AlreadyAnswered):
            await ada.answer(request, {"approved": False}, id="a1")
        with pytest.raises(AlreadyAnswered):
            await bob.answer(request, {"approved": True}, id="a1")
        await run


async def test_an_id_that_another_event_has_is_refused(session: Session, ada: Session) -> None:
    await ada.append({"type": "app.note"}, id="n1")
    async with asking(session, approve):
        with pytest.raises(IdConflict):
            await ada.answer((await the_one(ada)).request, {"approved": True}, id="n1")
        assert len(await ada.requests()) == 1


async def test_what_is_decided_once_names_the_winner(session: Session, ada: Session) -> None:
    await session.create()
    body = {"type": "control.accepted", "request": "c1", "run": "r1"}
    first = await settle(parts_of(session), "control/c1", body, id="c1.outcome")
    assert await settle(parts_of(session), "control/c1", body, id="c1.outcome") == Appended(first.offset, True)
    for id in (None, "c1.outcome"):
        with pytest.raises(Lost) as lost:
            await settle(parts_of(ada), "control/c1", {**body, "type": "control.expired"}, id=id)
        assert lost.value.winner.type == "control.accepted"
        assert lost.value.facts == {"by": "agent:writer", "offset": str(first.offset)}


# --- who may --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "participant", "device", "named"),
    [
        ("user:ada", "user:bob", None, "user:ada"),
        ("role:operator", "user:ada", None, "role:operator"),
        ({"participant": "user:ada", "device": "d1"}, "user:ada", "d2", "user:ada on device d1"),
        ({"participant": "user:ada", "device": "d1"}, "user:ada", None, "user:ada on device d1"),
        ({"participant": "user:ada", "device": "d1"}, "user:bob", "d1", "user:ada on device d1"),
    ],
)
async def test_only_those_it_is_addressed_to_can_claim_or_answer(
    fabric: Fabric, session: Session, to: Any, participant: str, device: str | None, named: str
) -> None:
    wrong = fabric.view(participant=participant).session("chat-1")
    async with asking(session, lambda run: run.client_tool("open", {}, to=to)):
        request = (await the_one(session)).request
        for call in (wrong.answer(request, "done", device=device), wrong.claim(request, device=device)):
            with pytest.raises(Forbidden) as refused:
                await call
            assert named in refused.value.message
            assert refused.value.facts["to"] == to


@pytest.mark.parametrize("to", ["operator:oscar", "role:operator", {"participant": "operator:oscar", "device": "d1"}])
async def test_the_one_it_is_addressed_to_answers(session: Session, oscar: Session, to: Any) -> None:
    async with asking(session, lambda run: run.approve("Sure?", to=to)) as run:
        await oscar.answer((await the_one(oscar)).request, {"approved": True}, device="d1")
        assert (await run).by == "operator:oscar"


async def test_nobody_appends_a_request_or_an_answer_past_the_calls_for_it(session: Session, ada: Session) -> None:
    for type in ("tool.requested", "tool.answered", "input.requested", "input.answered", "tool.claimed"):
        for one in (session, ada):
            with pytest.raises(Forbidden):
                await one.append({"type": type, "request": "q1", "run": "r1"})


# --- claims ---------------------------------------------------------------------------------------------


async def test_a_claimed_tool_is_left_to_the_device_that_works_on_it(
    session: Session, ada: Session, bob: Session
) -> None:
    async with asking(session, select) as run:
        request = (await the_one(ada)).request
        claim = await ada.claim(request, device="d1")
        assert 0 < claim.until - now_ms() <= 30_000
        assert (await the_one(ada)).claimed == claim
        for call in (
            bob.claim(request),
            ada.claim(request, device="d2"),
            bob.answer(request, 1),
            ada.answer(request, 1),
        ):
            with pytest.raises(AlreadyClaimed) as refused:
                await call
            assert refused.value.facts["by"] == "user:ada"
            assert refused.value.facts["until"] <= claim.until
        assert (await ada.claim(request, device="d1")).until >= claim.until
        await ada.answer(request, "done", device="d1")
        assert await run == "done"
        for call in (bob.claim(request), ada.claim(request, device="d1")):
            with pytest.raises(AlreadyAnswered):
                await call


async def test_a_claim_that_has_lapsed_is_taken_by_another(session: Session, ada: Session, bob: Session) -> None:
    async with asking(session, select) as run:
        request = (await the_one(ada)).request
        lapsed = {"type": "tool.claimed", "request": request, "run": "r1", "by": "user:ada", "device": "d1"}
        await settle(parts_of(ada), request_outcome(request), {**lapsed, "until": now_ms() - 1})
        await bob.claim(request, device="d9")
        with pytest.raises(AlreadyClaimed):
            await ada.answer(request, "late", device="d1")
        await bob.answer(request, "mine", device="d9")
        assert await run == "mine"


async def test_of_racing_claims_one_wins(session: Session, fabric: Fabric) -> None:
    ones = [fabric.view(participant=f"user:u{n}").session("chat-1") for n in range(8)]
    async with asking(session, select):
        request = (await the_one(session)).request
        gave = await asyncio.gather(*(one.claim(request) for one in ones), return_exceptions=True)
        assert sum(isinstance(result, AlreadyClaimed) for result in gave) == 7, gave


async def test_an_approval_cannot_be_claimed(session: Session, ada: Session) -> None:
    async with asking(session, approve):
        with pytest.raises(InvalidRequest, match="nothing to work on"):
            await ada.claim((await the_one(ada)).request)


# --- what is no answer ----------------------------------------------------------------------------------

SIZES = {"type": "object", "properties": {"size": {"enum": ["S", "M"]}}, "required": ["size"]}


@pytest.mark.parametrize(
    ("ask", "body", "why"),
    [
        (lambda run: run.approve("Sure?"), {"approved": "yes"}, "`approved`"),
        (lambda run: run.approve("Sure?"), True, "`approved`"),
        (lambda run: run.approve("Sure?"), {"approved": True, "comment": 7}, "`approved`"),
        (lambda run: run.ask("Size?", options=["S", "M"]), "XL", "none of the options"),
        (lambda run: run.ask("Size?", options=[{"id": "s"}]), {"id": "s"}, "none of the options"),
        (lambda run: run.ask("Name?"), 7, "Answer with text"),
        (lambda run: run.ask("Size?", schema=SIZES), {"size": "XL"}, r'\$.size: "XL" is not one of'),
        (lambda run: run.ask("Size?", schema=SIZES), {}, '"size" is a required property'),
    ],
)
async def test_what_is_no_answer_is_refused_and_the_request_stays_open(
    session: Session, ada: Session, ask: Callable[[Run], Awaitable[Any]], body: Any, why: str
) -> None:
    async with asking(session, ask):
        request = (await the_one(ada)).request
        with pytest.raises(InvalidRequest, match=why):
            await ada.answer(request, body)
        assert (await the_one(ada)).request == request


async def test_an_answer_is_a_body_or_an_error_and_not_too_large(session: Session, ada: Session) -> None:
    async with asking(session, select) as run:
        request = (await the_one(ada)).request
        with pytest.raises(InvalidRequest, match="either a body or an error"):
            await ada.answer(request)
        with pytest.raises(InvalidRequest, match="either a body or an error"):
            await ada.answer(request, 1, error="No")
        with pytest.raises(InvalidRequest, match="went wrong"):
            await ada.answer(request, error="")
        with pytest.raises(TooLarge) as large:
            await ada.answer(request, "x" * MAX_BODY_BYTES)
        assert large.value.facts["limit"] == MAX_BODY_BYTES
        with pytest.raises(InvalidName):
            await ada.answer(request, 1, device="a device")
        await ada.answer(request, "x" * (MAX_BODY_BYTES - 2))
        assert len(await run) == MAX_BODY_BYTES - 2


async def test_an_approval_cannot_be_answered_with_an_error(session: Session, ada: Session) -> None:
    async with asking(session, approve):
        with pytest.raises(InvalidRequest, match="cannot fail"):
            await ada.answer((await the_one(ada)).request, error="No")


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda run: run.ask(""), "title"),
        (lambda run: run.client_tool("", {}), "tool"),
        (lambda run: run.ask("Size?", options=[]), "options"),
        (lambda run: run.ask("Size?", options=["S", "S"]), "options"),
        (lambda run: run.ask("Size?", options=[7]), "options"),
        (lambda run: run.ask("Size?", options=["S"], schema={}), "either options or a schema"),
        (lambda run: run.ask("Size?", schema={"type": "sizes"}), "schema is none"),
        (lambda run: run.ask("Size?", schema={"$ref": "http://127.0.0.1:9/x"}), "schema refers to 'http:"),
        (lambda run: run.ask("Size?", schema={"pattern": "(?=a)"}), "pattern .* cannot be used"),
        (lambda run: run.ask("Size?", to="ada"), "addressed wrongly"),
        (lambda run: run.ask("Size?", to="role:king"), "no role 'king'"),
        (lambda run: run.ask("Size?", to={"participant": "user:ada"}), "nobody to ask"),
        (lambda run: run.ask("Size?", to="pool:default"), "addressed wrongly"),
        (lambda run: run.ask("Size?", deadline_s=0), "deadline_s"),
        (lambda run: run.ask("Size?", deadline_s=1e8), "30 days"),
        (lambda run: run.ask("Size?", default="S"), "needs a deadline"),
        (lambda run: run.ask("Size?", options=["S"], default="M", deadline_s=1), "default is no answer"),
        (lambda run: run.client_tool("t", {"a": object()}), "not JSON"),
    ],
)
async def test_what_nobody_could_answer_is_refused_and_not_asked(
    session: Session, ask: Callable[[Run], Awaitable[Any]], why: str
) -> None:
    async with session.run("r1") as run:
        with pytest.raises(InvalidRequest, match=why):
            await ask(run)
    assert not {"tool.requested", "input.requested", "run.suspended", "TOOL_CALL_START"} & set(
        types(await stored(session))
    )


async def test_a_request_that_is_not_there_is_not_found(session: Session, ada: Session) -> None:
    with pytest.raises(SessionNotFound):
        await ada.requests()
    await ada.create()
    assert await ada.requests() == []
    for call in (ada.answer("nothing", 1), ada.claim("nothing")):
        with pytest.raises(RequestNotFound):
            await call


async def test_a_request_is_found_among_many(session: Session, ada: Session) -> None:
    async def many(run: Run) -> list[Answer]:
        return await asyncio.gather(*(run.ask(f"{n}?", id=f"q{n}") for n in range(MOST_OPEN_ASKS)))

    async with asking(session, many):
        found = await eventually(lambda: _open(ada, MOST_OPEN_ASKS), 30)
        assert [r.offset for r in found] == sorted(r.offset for r in found)
        await ada.answer(found[0].request, "the oldest")
        with pytest.raises(RequestNotFound):
            await ada.answer(f"q{MOST_OPEN_ASKS}", "none")


# --- deadlines and ends ---------------------------------------------------------------------------------


async def test_at_its_deadline_a_request_expires(session: Session, ada: Session) -> None:
    async with asking(session, lambda run: run.client_tool("t", {}, deadline_s=0.2)) as run:
        request = (await the_one(ada)).request
        with pytest.raises(RequestExpired) as expired:
            await run
        assert expired.value.facts["reason"] == "deadline"
        with pytest.raises(RequestClosed) as closed:
            await ada.answer(request, "late")
    assert (closed.value.facts["outcome"], closed.value.facts["reason"]) == ("tool.expired", "deadline")
    outcome = next(e for e in await stored(session) if e.type == "tool.expired")
    assert outcome.actor == "service:fabric"
    assert outcome.body == {"type": "tool.expired", "request": request, "run": "r1", "reason": "deadline"}


async def test_at_its_deadline_the_default_counts(session: Session, ada: Session) -> None:
    async with asking(session, lambda run: run.approve("Sure?", deadline_s=0.2, default=False)) as run:
        request = (await the_one(ada)).request
        assert await run == Approval(False, "service:fabric", None, True)
        with pytest.raises(RequestClosed) as closed:
            await ada.answer(request, {"approved": True})
    assert closed.value.facts["outcome"] == "input.answered"
    outcome = next(e for e in await stored(session) if e.type == "input.answered")
    assert outcome.body["defaulted"] is True


async def test_when_a_run_ends_its_open_requests_are_closed(session: Session, ada: Session) -> None:
    async def impatient(run: Run) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await run.approve("Sure?")
        return "gone on"

    async with asking(session, impatient) as run:
        request = (await the_one(ada)).request
        assert await run == "gone on"
    assert await ada.requests() == []
    with pytest.raises(RequestClosed) as closed:
        await ada.answer(request, {"approved": True})
    assert closed.value.facts["outcome"] == "input.expired"
    told = types(await stored(session))
    assert told[-4:] == ["run.suspended", "run.resumed", "RUN_FINISHED", "input.expired"]


async def test_when_a_lost_agents_run_is_ended_its_open_requests_are_closed(session: Session, ada: Session) -> None:
    async with asking(session, approve) as run:
        request = (await the_one(ada)).request
        assert await session.abandon("r1")
        assert "input.expired" in types(await stored(session))
        assert await ada.requests() == []
        with pytest.raises(RequestClosed) as closed:
            await ada.answer(request, {"approved": True})
        assert closed.value.facts["reason"] == "run_ended"
        run.cancel()


async def test_a_request_that_its_runs_end_left_open_is_closed_by_who_answers(session: Session, ada: Session) -> None:
    async with asking(session, approve) as run:
        request = (await the_one(ada)).request
        # The run may be writing that it waits this moment, and be first.
        await eventually(lambda: end_run(parts_of(session), "r1", agent_lost()))
        assert await ada.requests() == []
        with pytest.raises(RequestClosed):
            await ada.answer(request, {"approved": True})
        assert types(await stored(session))[-1] == "input.expired"
        run.cancel()


async def test_a_cancel_of_the_run_interrupts_the_wait(session: Session, ada: Session) -> None:
    seen: list[Run] = []

    async def ask(run: Run) -> Any:
        seen.append(run)
        return await run.approve("Sure?")

    async with asking(session, ask) as run:
        request = (await the_one(ada)).request
        await ada.control("cancel", run="r1")
        assert await run is None
        assert seen[0].cancelled
    with pytest.raises(RequestClosed):
        await ada.answer(request, {"approved": True})
    told = types(await stored(session))
    assert RUN_FINISHED in told
    assert "run.resumed" not in told


# --- whoever runs the handler again ----------------------------------------------------------------------


async def test_an_agent_that_asks_again_finds_what_was_asked_and_what_was_answered(
    session: Session, ada: Session
) -> None:
    """As after a takeover, when the handler is run again."""

    async def handler(run: Run) -> list[Any]:
        return [await run.ask("First?"), await run.ask("Second?")]

    async def twice(run: Run) -> list[Any]:
        waiting = asyncio.create_task(handler(run))
        await ada.answer((await the_one(ada)).request, "one")
        await eventually(lambda: _second(ada))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await run.begin_again(2)
        again = asyncio.create_task(handler(run))
        await ada.answer((await the_one(ada)).request, "two")
        return await again

    async with asking(session, twice) as run:
        assert [answer.body for answer in await run] == ["one", "two"]
    asked = [e for e in await stored(session) if e.type == "input.requested"]
    assert [e.id for e in asked] == ["r1.text.1", "r1.text.2"]


async def _second(session: Session) -> bool:
    return [r.body["title"] for r in await session.requests()] == ["Second?"]


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_run_that_is_taken_over_goes_on_with_the_request_that_its_first_agent_made(
    fabrics: Fabrics, goes_on: bool
) -> None:
    first, second = await fabrics.open(), await fabrics.open()
    ada = second.view(participant="user:ada").session("chat-1")

    async def handler(run: Run) -> tuple[Any, Any]:
        return await run.client_tool("read_selection", {}), await run.approve("Delete it?", deadline_s=60)

    async with asking(first.session("chat-1"), handler):
        await ada.answer((await the_one(ada)).request, "chosen")
        request = await eventually(lambda: _titled(ada, "Delete it?"))
        await eventually(lambda: _suspended(ada))
        parts = parts_of(second.session("chat-1"))
        newest = await parts.broker.log.newest((await parts.open()).stretch, Wanted("own", "r1"))
        assert newest is not None
        async with OpenRun(parts, "r1", takeover=Takeover(newest.sequence, 2, goes_on)) as run:
            again = asyncio.create_task(handler(run))
            await eventually(lambda: _suspended(ada, 3))
            assert [r.request for r in await ada.requests()] == [request.request]
            await ada.answer(request.request, {"approved": True})
            assert await again == ("chosen", Approval(True, "user:ada", None, False))
    told = types(await stored(ada))
    assert (told.count("tool.requested"), told.count("input.requested")) == (1, 1)
    shown = [m for m in (await ada.messages()).messages if m.tool_calls]
    calls = {call.id: call for message in shown for call in message.tool_calls}
    # Where what was said before is hidden, the call is told again.
    assert [(call.args, call.result) for call in calls.values()] == [("{}", "chosen")]
    assert not goes_on or "r1.tool.1" in calls


async def _titled(session: Session, title: str) -> Request | None:
    return next((r for r in await session.requests() if r.body.get("title") == title), None)


async def _suspended(session: Session, times: int = 2) -> bool:
    return types(await stored(session)).count("run.suspended") == times


async def test_a_request_of_another_run_is_not_taken_for_ones_own(session: Session, ada: Session) -> None:
    async with asking(session, lambda run: run.ask("One?", id="q1")):
        await the_one(ada)
        async with session.run("r2") as other:
            with pytest.raises(IdConflict):
                await other.ask("One?", id="q1")


async def test_a_page_that_was_loaded_again_answers(session: Session, fabrics: Fabrics) -> None:
    async with asking(session, approve) as run:
        before = await fabrics.open("user:ada")
        request = (await the_one(before.session("chat-1"))).request
        await before.close()
        after = await fabrics.open("user:ada")
        assert (await the_one(after.session("chat-1"))).request == request
        await after.session("chat-1").answer(request, {"approved": True})
        assert (await run).approved


async def test_a_run_waits_through_the_end_of_the_broker_and_hears_the_answer(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, streams=1) as agent:
        ada = agent.view(participant="user:ada").session("chat-1")
        async with asking(agent.session("chat-1"), approve) as run:
            request = (await the_one(ada)).request
            await eventually(lambda: _suspended(ada, 1))
            own_server.kill()
            await own_server.restart()

            async def answered() -> bool:
                try:
                    await ada.answer(request, {"approved": True})
                except BrokerUnavailable:
                    return False
                return True

            await eventually(answered, 30)
            assert (await run).approved
    # However often it was sent, it is one answer.
    async with Fabric.connect(own_server.url, streams=1) as later:
        assert types(await stored(later.session("chat-1"))).count("input.answered") == 1


async def test_a_call_that_the_run_has_announced_itself_is_not_announced_again(session: Session, ada: Session) -> None:
    async def ask(run: Run) -> Any:
        await run.emit({"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "open"})
        await run.emit({"type": "TOOL_CALL_END", "toolCallId": "c1"})
        return await run.client_tool("open", {}, call="c1")

    async with asking(session, ask) as run:
        found = await the_one(ada)
        await ada.answer(found.request, "done")
        assert await run == "done"
    events = await stored(session)
    assert found.body["call"] == "c1"
    assert types(events).count("TOOL_CALL_START") == 1
    (result,) = [event.body for event in events if event.type == "TOOL_CALL_RESULT"]
    assert (result["toolCallId"], result["content"]) == ("c1", "done")
