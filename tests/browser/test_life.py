"""What people and agents do in a session, on their pages: approve, steer, take over, give back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Locator, expect
from session_fabric import AgentRun, Fabric, Run

from tests.browser.agent import question
from tests.browser.conftest import OpenDevice
from tests.browser.device import Device
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVE = "operator:eve"


@asynccontextmanager
async def working(
    fabric: Fabric, session: str, work: Callable[[Run], Awaitable[Any]]
) -> AsyncIterator[asyncio.Task[Any]]:
    """Let an agent do something in a run of its own; it has ended when the block is left."""

    async def run() -> Any:
        async with fabric.session(session).run() as made:
            return await work(made)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        try:
            yield task
        except BaseException:
            task.cancel()
            raise


@asynccontextmanager
async def serving(fabric: Fabric, handler: Callable[[AgentRun], Awaitable[None]]) -> AsyncIterator[None]:
    """Let an agent of the default pool answer what is asked."""
    agent = fabric.agent(retries=0)(handler)
    task = asyncio.create_task(agent.serve())
    try:
        yield
    finally:
        agent.stop()
        await task


def card(device: Device) -> Locator:
    return device.page.locator(".ask")


async def approval(run: Run) -> bool:
    await run.text("I found three files. ")
    decision = await run.approve("Delete 3 files?", text="a.txt, b.txt, c.txt", deadline_s=60)
    await run.text(f"{'Deleted' if decision.approved else 'Kept'}: {decision.comment}.")
    return decision.approved


async def test_an_approval_is_answered_on_one_device_and_the_other_shows_who_did(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    bob = await device(token="user:bob")
    async with working(fabric, session_name, approval) as work:
        for one in (ada, bob):
            await expect(card(one).get_by_role("heading")).to_have_text("Delete 3 files?")
            await expect(one.page.get_by_role("button", name="Approve")).to_be_enabled()
            await expect(one.page.locator("#thinking")).to_contain_text("waiting for an answer")
        await expect(card(ada).locator(".countdown")).to_contain_text("left")
        await bob.page.get_by_label("Comment").fill("b.txt too")
        await bob.page.get_by_role("button", name="Approve").click()
        assert await work is True
    await expect(card(bob).locator(".outcome")).to_have_text("Approved by you: “b.txt too”")
    await expect(card(ada).locator(".outcome")).to_have_text("Approved by bob: “b.txt too”")
    await expect(card(ada)).to_have_attribute("data-state", "answered")
    for one in (ada, bob):
        await expect(one.page.get_by_role("button", name="Approve")).to_be_hidden()
        await expect(one.page.locator("article .text")).to_have_text("I found three files. Deleted: b.txt too.")


async def test_an_approval_is_there_after_a_reload_and_counts_from_where_it_was(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    async with working(fabric, session_name, approval) as work:
        await expect(card(ada)).to_be_visible()
        await ada.page.reload()
        await ada.is_live()
        await ada.page.get_by_role("button", name="Decline").click()
        assert await work is False
    await expect(card(ada).locator(".outcome")).to_have_text("Declined by you")
    await ada.page.reload()
    await ada.is_live()
    await expect(card(ada).locator(".outcome")).to_have_text("Declined by you")
    await expect(ada.page.get_by_role("button", name="Decline")).to_be_hidden()


async def test_what_is_asked_of_operators_a_user_sees_and_cannot_answer(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    eve = await device(token=EVE)

    async def ask(run: Run) -> Any:
        return (await run.ask("Which size?", options=[{"id": "s", "label": "Small"}, "large"], to="role:operator")).body

    async with working(fabric, session_name, ask) as work:
        await expect(ada.page.get_by_role("button", name="Small")).to_be_disabled()
        await eve.page.get_by_role("button", name="Small").click()
        assert await work == "s"
    await expect(card(ada).locator(".outcome")).to_have_text("“Small” chosen by eve")


async def test_a_form_is_filled_in_and_one_that_does_not_fit_is_not_sent(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    properties = {
        "city": {"type": "string", "title": "City"},
        "floor": {"type": "integer", "minimum": 0},
        "lift": {"type": "boolean"},
        "door": {"enum": ["left", "right"]},
    }
    schema = {"type": "object", "properties": properties, "required": ["city"]}

    async def ask(run: Run) -> Any:
        return (await run.ask("Where to?", schema=schema)).body

    async with working(fabric, session_name, ask) as work:
        send = card(ada).get_by_role("button", name="Answer")
        await send.click()
        await expect(card(ada)).to_have_attribute("data-state", "ready")
        await card(ada).get_by_label("City").fill("Oslo")
        await card(ada).get_by_label("floor").fill("3")
        await card(ada).get_by_label("lift").check()
        await card(ada).get_by_label("door").select_option("right")
        await send.click()
        assert await work == {"city": "Oslo", "floor": 3, "lift": True, "door": "right"}
    await expect(card(ada).locator(".outcome")).to_contain_text("Oslo")


async def test_an_answer_that_nobody_gives_is_the_default_at_the_deadline(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()

    async def ask(run: Run) -> Any:
        return (await run.approve("Send it?", deadline_s=1.0, default=False)).defaulted

    async with working(fabric, session_name, ask) as work:
        await expect(card(ada).locator(".countdown")).to_contain_text("left, then: Declined")
        assert await work is True
    await expect(card(ada).locator(".outcome")).to_have_text("Declined, since nobody answered in time")


async def test_a_tool_of_the_page_is_run_when_the_page_comes_back(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    await ada.page.set_viewport_size({"width": 900, "height": 700})

    async def ask(run: Run) -> Any:
        return await run.client_tool("read_page", {}, to="user:ada", deadline_s=30)

    # The page never hears of it: its network has gone, and then it is loaded again.
    ada.link.swallow()
    async with working(fabric, session_name, ask) as work:
        await eventually(lambda: requested(fabric, session_name))
        ada.link.mend()
        await ada.page.reload()
        found = await work
    assert found["viewport"] == {"width": 900, "height": 700, "ratio": 1}
    await expect(ada.page.locator("details.tool[data-tool=read_page]")).to_have_attribute("data-status", "done")


async def requested(fabric: Fabric, session: str) -> bool:
    return any(e.type == "tool.requested" for e in (await fabric.session(session).history(limit=100)).events)


async def test_an_agent_reads_what_was_marked_before_one_went_on_to_write(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    await ada.send("a needle in the hay")
    words = ada.page.locator("article[data-role=user]:not(.sending) .text")
    await words.click(click_count=3)
    await ada.page.get_by_label("Message").fill("What have I marked?")

    async def ask(run: Run) -> Any:
        return await run.client_tool("read_selection", {}, to="user:ada", deadline_s=30)

    async with working(fabric, session_name, ask) as work:
        assert await work == {"text": "a needle in the hay"}


async def test_what_is_added_to_an_answer_is_taken_up_in_it(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    other = await device()

    async def write(run: Run) -> None:
        await run.text("Long")
        async for steer in run.steering():
            await run.text(f", now {steer.text}")
            return

    async with working(fabric, session_name, write):
        await ada.page.get_by_label("Add to this answer").check()
        await ada.send("shorter")
    for one in (ada, other):
        await expect(one.page.locator("article .text")).to_have_text("Long, now shorter")
        await expect(one.page.locator(".happened[data-what=steer]")).to_contain_text("shorter")
        await expect(one.page.locator(".happened[data-what=steer] .state")).to_have_text("taken up")
    await expect(ada.page.get_by_label("Add to this answer")).to_be_hidden()
    assert len(await ada.model()) == 1


async def test_an_agent_that_does_not_listen_is_told_to_do_something_else_instead(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()

    async def answer(run: AgentRun) -> None:
        await run.text(f"About {run.input.text}: ")
        if run.input.text == "hay":
            await asyncio.Event().wait()
        await run.text("done.")

    async with serving(fabric, answer):
        await ada.send("hay")
        await expect(ada.page.get_by_role("button", name="Stop")).to_be_visible()
        await ada.page.get_by_label("Add to this answer").check()
        await ada.send("straw")
        await expect(ada.page.locator(".happened[data-what=steer] .state")).to_have_text("not taken up")
        await ada.page.get_by_label("Do this instead").check()
        await ada.send("needles")
        answers = ada.page.locator("article[data-role=assistant]")
        await expect(answers.locator(".text")).to_have_text(["About hay:", "About needles: done."])
        await expect(answers.first).to_have_attribute("data-status", "interrupted")


async def test_an_operator_takes_over_in_mid_answer_speaks_and_gives_back(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    eve = await device(token=EVE, operator=True)
    answered: list[str] = []

    async def answer(run: AgentRun) -> None:
        answered.append(run.input.text)
        await run.text("Let me think")
        if len(answered) == 1:
            await asyncio.Event().wait()

    async with serving(fabric, answer):
        await ada.send("Help me")
        await expect(eve.page.locator("article[data-role=assistant]")).to_have_attribute("data-status", "open")
        members = ada.page.locator("#members")
        await expect(members).not_to_contain_text("eve")  # who watches is not seen
        await eve.page.get_by_role("button", name="Take over").click()
        await expect(ada.page.locator("#floor")).to_have_text("eve (operator) answers")
        await expect(members).to_contain_text("eve")
        answers = ada.page.locator("article[data-role=assistant]")
        await expect(answers.first).to_have_attribute("data-status", "interrupted")
        await eve.send("Hello, this is Eve.")
        await expect(answers.last.locator(".text")).to_have_text("Hello, this is Eve.")
        await expect(answers.last.locator(".role")).to_have_text("operator")
        await ada.send("Thank you")
        await expect(eve.page.locator("article[data-role=user]").last).to_contain_text("Thank you")
        await eve.page.get_by_role("button", name="Give back").click()
        await expect(ada.page.locator("#floor")).to_be_hidden()
        await expect(members).not_to_contain_text("eve")
        await ada.send("And now?")
        await expect(answers.last.locator(".text")).to_have_text("Let me think")
    assert answered == ["Help me", "And now?"]


async def test_what_an_operator_whispers_the_agent_hears_and_the_user_does_not_see(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    eve = await device(token=EVE, operator=True)

    async def write(run: Run) -> None:
        await run.text("Well")
        async for steer in run.steering():
            await run.text(f", you are valued ({len(steer.text)} {steer.whispered})")
            return

    async with working(fabric, session_name, write):
        await eve.page.get_by_label("Whisper to the agent").check()
        await eve.send("A gold member")
    for one in (ada, eve):
        await expect(one.page.locator("article .text")).to_have_text("Well, you are valued (13 True)")
    await expect(eve.page.locator(".happened[data-what=whisper]")).to_contain_text("A gold member")
    await expect(ada.page.locator(".happened[data-what=whisper]")).to_have_count(0)
    assert "gold" not in await ada.page.content()
    # Nor from the log.
    await ada.page.reload()
    await expect(ada.page.locator("article .text")).to_have_text("Well, you are valued (13 True)")
    assert "gold" not in await ada.page.content()


async def test_a_session_that_wants_a_person_is_listed_and_taken(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    eve = await device(token=EVE, operator=True, session="")
    await ada.send("A person, please")
    await question(fabric, session_name)
    await fabric.view(participant="operator:bot").session(session_name).floor().offer("role:operator", "Wants a person")
    offer = eve.page.locator(f"#wanted li[data-session='{session_name}']")
    await expect(offer).to_contain_text("Wants a person", timeout=10_000)
    await offer.get_by_role("button", name="Accept").click()
    await expect(eve.page.locator("article .text")).to_have_text("A person, please")
    await expect(eve.page.locator("#floor")).to_have_text("You answer")
    await expect(ada.page.locator("#floor")).to_have_text("eve (operator) answers")
    await expect(offer).to_have_count(0)


async def test_an_edit_and_a_new_answer_stand_beside_the_old_and_all_see_the_one_that_is_chosen(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    other = await device()
    count = 0

    async def answer(run: AgentRun) -> None:
        nonlocal count
        count += 1
        await run.text(f"Answer {count} to {run.input.text}.")

    async def show(*texts: str) -> None:
        for one in (ada, other):
            await expect(one.page.locator("article:not(.sending) .text")).to_have_text(list(texts))

    async with serving(fabric, answer):
        await ada.send("hay")
        await show("hay", "Answer 1 to hay.")
        await ada.page.get_by_role("button", name="Answer again").click()
        await show("hay", "Answer 2 to hay.")
        answers = [one.page.locator("article[data-role=assistant] .acts") for one in (ada, other)]
        for acts in answers:
            await expect(acts).to_contain_text("2/2")
        await answers[1].get_by_role("button", name="Previous version").click()
        await show("hay", "Answer 1 to hay.")
        await ada.page.get_by_role("button", name="Edit").click()
        await expect(ada.page.get_by_label("Message")).to_have_value("hay")
        await ada.send("straw")
        await show("straw", "Answer 3 to straw.")
        await ada.page.locator("article[data-role=user]").get_by_role("button", name="Previous version").click()
        await show("hay", "Answer 1 to hay.")
        await other.page.reload()
        await other.is_live()
        await show("hay", "Answer 1 to hay.")


async def test_what_others_have_read_is_shown_and_what_one_has_not_is_counted(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    bob = await device(token="user:bob")
    await ada.send("Look at this")
    await expect(bob.page.locator("article .text")).to_have_text("Look at this")
    await expect(ada.page.locator("#seen")).to_have_text("Seen by bob")
    await bob.page.get_by_role("link", name="New chat").click()
    await ada.send("And this")
    await ada.page.locator("article[data-role=user]:not(.sending)").last.get_by_text("And this").wait_for()
    await bob.page.reload()
    listed = bob.page.locator(f"#sessions a[data-session='{session_name}']")
    await expect(listed.get_by_label("1 unread")).to_be_visible()
    await listed.click()
    await expect(ada.page.locator("#seen")).to_have_text("Seen by bob")
    await expect(listed.get_by_label("unread")).to_have_count(0)
