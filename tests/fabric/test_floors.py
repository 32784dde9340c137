"""The floor in a session: offered, taken, given back; by one at a time."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric import Fabric, Session
from session_fabric.floors import Offered, expire
from session_fabric.words.errors import (
    AlreadyAnswered,
    Forbidden,
    NotHolder,
    RequestClosed,
    RequestNotFound,
    RunClosed,
    RunFenced,
)

from tests.support.waiting import eventually


@pytest.fixture
async def chat(session: Session) -> Session:
    await session.create()
    return session


def of(fabric: Fabric, who: str) -> Session:
    return fabric.view(participant=who).session("chat-1")


async def offered(chat: Session, fabric: Fabric, to: str = "role:operator", **more: int) -> Offered:
    return await of(fabric, "supervisor:sue").floor().offer(to, "please", deadline_ms=more.get("deadline_ms", 60_000))


async def test_of_many_who_accept_at_once_one_has_it_and_the_others_are_told_who(fabric: Fabric, chat: Session) -> None:
    for number in range(10):
        offer = await offered(chat, fabric)
        people = [f"operator:{name}-{number}" for name in ("eve", "bob", "kim")]
        tries = [of(fabric, who).floor().accept(offer.request) for who in people]
        results = await asyncio.gather(*tries, return_exceptions=True)
        winner = (await chat.floor().state()).participant
        assert [r.participant for r in results if not isinstance(r, BaseException)] == [winner]
        lost = [r for r in results if isinstance(r, AlreadyAnswered)]
        assert [r.facts["by"] for r in lost] == [winner, winner]


async def test_an_offer_that_was_declined_cannot_be_accepted(fabric: Fabric, chat: Session) -> None:
    offer = await offered(chat, fabric, "operator:eve")
    with pytest.raises(Forbidden, match="offered to operator:eve"):
        await of(fabric, "operator:bob").floor().decline(offer.request)
    await of(fabric, "operator:eve").floor().decline(offer.request, "busy")
    with pytest.raises(AlreadyAnswered, match=r"handoff\.declined"):
        await of(fabric, "operator:eve").floor().accept(offer.request)
    assert (await chat.floor().state()).participant is None


async def test_an_offer_that_has_expired_cannot_be_accepted(fabric: Fabric, chat: Session) -> None:
    offer = await offered(chat, fabric)
    stored = next(e for e in (await chat.history()).events if e.type == "handoff.offered")
    await expire(chat._parts.as_service(), stored)
    with pytest.raises(RequestClosed, match="expired"):
        await of(fabric, "operator:eve").floor().accept(offer.request)
    await expire(chat._parts.as_service(), stored)
    assert [e.type for e in (await chat.history()).events].count("handoff.expired") == 1


async def test_an_offer_is_void_when_the_floor_has_changed_hands_since(fabric: Fabric, chat: Session) -> None:
    offer = await offered(chat, fabric)
    await of(fabric, "supervisor:sue").floor().take()
    with pytest.raises(RequestClosed, match="changed hands"):
        await of(fabric, "operator:eve").floor().accept(offer.request)


async def test_an_offer_that_was_never_made_is_not_found(fabric: Fabric, chat: Session) -> None:
    with pytest.raises(RequestNotFound):
        await of(fabric, "operator:eve").floor().accept("nothing")


async def test_who_takes_the_floor_ends_what_is_under_way_and_its_text_is_kept(fabric: Fabric, chat: Session) -> None:
    opening = chat.run("r1")
    opening._claim["pool"] = "default"
    run = await opening.__aenter__()
    await run.text("So far")

    async def stored() -> bool:
        return any(m.content for m in (await chat.messages()).messages)

    await eventually(stored)
    eve = of(fabric, "operator:eve").floor()
    await eve.take("mine")
    with pytest.raises((RunClosed, RunFenced)):
        await run.text("and more")
        await opening.__aexit__(None, None, None)
    end = next(e for e in (await chat.history()).events if e.type == "RUN_FINISHED")
    assert (end.body["outcome"], end.body["reason"]) == ({"type": "cancelled"}, "handoff")
    assert [m.content for m in (await chat.messages()).messages] == ["So far"]


async def test_only_who_has_the_floor_speaks_in_the_agents_place(fabric: Fabric, chat: Session) -> None:
    eve, bob = of(fabric, "operator:eve").floor(), of(fabric, "operator:bob").floor()
    with pytest.raises(NotHolder, match="Nobody has"):
        await eve.say("Hello")
    await eve.take()
    first = await eve.say("Hello", id="m1")
    assert (await eve.say("Hello", id="m1")) == (first.offset, True)
    await bob.take()
    with pytest.raises(NotHolder, match="operator:bob has"):
        await eve.say("Still me")
    said = [(m.actor, m.role, m.content) for m in (await chat.messages()).messages]
    assert said == [("operator:eve", "assistant", "Hello")]


async def test_users_and_agents_cannot_take_the_floor(fabric: Fabric, chat: Session) -> None:
    for who in ("user:ada", "agent:writer"):
        with pytest.raises(Forbidden):
            await of(fabric, who).floor().take()


async def test_who_has_not_heard_that_his_acceptance_was_stored_may_say_it_again(fabric: Fabric, chat: Session) -> None:
    offer = await offered(chat, fabric)
    eve = of(fabric, "operator:eve").floor()
    first = await eve.accept(offer.request)
    assert await eve.accept(offer.request) == first
    with pytest.raises(AlreadyAnswered):
        await of(fabric, "operator:bob").floor().accept(offer.request)
    await of(fabric, "supervisor:sue").floor().take()
    with pytest.raises(AlreadyAnswered):  # it is another's by now
        await eve.accept(offer.request)
