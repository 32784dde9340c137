"""Edits, answers made anew, and which of them is shown to everybody."""

from __future__ import annotations

from typing import Any

import pytest
from session_fabric import Fabric, Offset, Session
from session_fabric.opening import OpenRun
from session_fabric.rules.routing import run_of_input
from session_fabric.words.errors import InvalidEvent, InvalidName, InvalidRequest, MessageNotFound

from tests.support.sessions import Fabrics, said, stored


@pytest.fixture
async def ada(fabrics: Fabrics, session: Session) -> Session:
    return (await fabrics.open("user:ada")).session(session.name)


@pytest.fixture
async def bob(fabrics: Fabrics, session: Session) -> Session:
    return (await fabrics.open("user:bob")).session(session.name)


async def answer(session: Session, message: str, run: str, text: str) -> None:
    """Answer as an agent does whose run says what it answers."""
    async with OpenRun(session._parts, run, claim={"message": message}) as opened, opened.message(f"{run}-m") as part:
        await part.text(text)


async def page(session: Session, branch: Any = "visible") -> list[tuple[str, str | None]]:
    return [(m.id, m.parent) for m in (await session.messages(branch=branch)).messages]


async def test_an_edit_stands_in_place_of_the_message_and_of_what_followed_it(session: Session, ada: Session) -> None:
    await ada.append(said("How far is it?", "u1"))
    await answer(session, "u1", "r1", "To where?")
    await ada.append(said("To Rome", "u2"))
    await answer(session, "u2", "r2", "Far.")
    await ada.edit("u2", "To Paris", id="u3")
    await answer(session, "u3", "r3", "Not far.")
    assert await page(ada) == [("u1", None), ("r1-m", "u1"), ("u3", "r1-m"), ("r3-m", "u3")]
    assert [id for id, _ in await page(ada, "all")] == ["u1", "r1-m", "u2", "r2-m", "u3", "r3-m"]

    await ada.select("r2-m")
    assert [id for id, _ in await page(ada)] == ["u1", "r1-m", "u2", "r2-m"]
    await ada.append(said("By train?", "u4"))
    assert (await page(ada))[-1] == ("u4", "r2-m")


async def test_the_first_message_can_be_edited(ada: Session) -> None:
    await ada.append(said("Helo", "u1"))
    await ada.edit("u1", "Hello", id="u2")
    assert await page(ada) == [("u2", None)]
    (edited,) = [event.body for event in await stored(ada) if event.id == "u2"]
    assert edited["parent"] is None
    assert (await ada.edit("u1", "Hello", id="u2")).duplicate


async def test_an_answer_made_anew_is_shown_and_anybody_may_select_the_other(
    session: Session, ada: Session, bob: Session
) -> None:
    await ada.append(said("Hello", "u1"))
    await answer(session, "u1", "r1", "Hi.")
    await bob.regenerate("u1", id="again")
    (asked,) = [event for event in await stored(ada) if event.type == "message.regenerate"]
    assert (asked.actor, asked.body) == ("user:bob", {"type": "message.regenerate", "message": "u1"})
    await answer(session, "u1", run_of_input("again"), "Good morning.")
    new = f"{run_of_input('again')}-m"
    assert await page(ada) == [("u1", None), (new, "u1")]
    await ada.select("r1-m")
    assert await page(bob) == [("u1", None), ("r1-m", "u1")]
    await bob.select(new)
    assert await page(ada) == [("u1", None), (new, "u1")]


async def test_inputs_to_a_pool_ring_there(fabric: Fabric, ada: Session) -> None:
    await ada.append(said("Hello", "u1"))
    await ada.regenerate("u1", pool="legal")
    await ada.edit("u1", "Hello!", pool="legal")
    pools = [event.body.get("pool") for event in await stored(ada) if event.type.startswith("message.")]
    assert pools == [None, "legal", "legal"]


async def test_only_what_users_said_can_be_edited_and_answered_again(session: Session, ada: Session) -> None:
    await ada.append(said("Hello", "u1"))
    await answer(session, "u1", "r1", "Hi.")
    for call in (ada.regenerate("r1-m"), ada.edit("r1-m", "Bye")):
        with pytest.raises(InvalidRequest, match=r"'r1-m' is agent:writer's answer.*'u1'"):
            await call
    for call in (ada.regenerate("u9"), ada.edit("u9", "Bye")):
        with pytest.raises(MessageNotFound, match="no message 'u9'"):
            await call
    for wrong in (ada.regenerate("a b"), ada.regenerate("u1", pool="a b")):
        with pytest.raises(InvalidName):
            await wrong


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"type": "branch.selected"}, "None"),
        ({"type": "branch.selected", "message": 7}, "7"),
        ({"type": "message.regenerate", "message": "a b"}, "'a b'"),
        ({**said("Hello"), "parent": 7}, "7"),
        ({**said("Hello"), "parent": ""}, "''"),
    ],
)
async def test_a_wrong_message_is_named(ada: Session, body: dict[str, Any], names: str) -> None:
    with pytest.raises(InvalidEvent, match=names):
        await ada.append(body)


async def test_a_page_of_the_shown_branch_goes_on_before_its_first_message(ada: Session) -> None:
    for n in range(4):
        await ada.append(said(str(n), f"u{n}"))
    await ada.edit("u2", "two", id="u9")
    newest = await ada.messages(limit=2, branch="visible")
    assert [m.id for m in newest.messages] == ["u1", "u9"]
    assert isinstance(newest.previous, Offset)
    before = await ada.messages(before=newest.previous, branch="visible")
    assert [m.id for m in before.messages] == ["u0"]
