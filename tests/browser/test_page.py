"""What a user sees and does on the demo page."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect
from session_fabric import Fabric, RunFailed

from tests.browser.agent import long_text, question, scribe
from tests.browser.conftest import OpenDevice
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXT = long_text(40)


async def test_stop_ends_the_run_and_keeps_what_was_written(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    other = await device()
    stop = ada.page.get_by_role("button", name="Stop")
    await expect(stop).to_be_hidden()
    await ada.send("Go on for ever")
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), TEXT) as agent:
        agent.until(0.4)
        await ada.page.locator("article[data-role=assistant]").wait_for()
        await stop.click()
        await eventually(lambda: agent.run is not None and agent.run.cancelled)
    await expect(stop).to_be_hidden()
    for one in (ada, other):
        answer = one.page.locator("article[data-role=assistant]")
        await expect(answer).to_have_attribute("data-status", "interrupted")
        await expect(answer.locator("footer")).to_have_text("Stopped")
    assert await ada.model() == await other.model()
    assert TEXT.startswith((await ada.text()) or "nothing")
    events = [e.type for e in (await fabric.session(session_name).history(limit=1000)).events]
    assert "control.accepted" in events


async def test_a_tool_call_is_shown_with_what_was_asked_and_found(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    async with fabric.session(session_name).run() as run, run.message() as message:
        call = await run.tool("search_docs", {"query": "resume"})
        tool = ada.page.locator("details.tool")
        await expect(tool).to_have_attribute("data-status", "running")
        await expect(ada.page.locator("#thinking")).to_contain_text("search_docs")
        await call.result([{"title": "Resume", "source": "docs/protocol.md#resume", "preview": "Open again"}])
        await message.text("From the page.")
    await expect(tool).to_have_attribute("data-status", "done")
    await expect(tool.locator("summary")).to_contain_text("resume")
    await expect(tool.locator("summary")).to_contain_text("1 source")
    await tool.locator("summary").click()
    await expect(tool.locator("cite")).to_have_text("Resume")
    await ada.page.reload()
    await expect(tool).to_have_attribute("data-status", "done")
    await expect(tool.locator("pre").first).to_contain_text("resume")


async def test_what_is_redacted_goes_from_every_page_that_shows_it(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada, other = await device(), await device()
    session = fabric.session(session_name)
    async with session.run() as run, run.message() as message:
        await message.text("Your card is 4111-1111.")
        await (await run.tool("charge", {"card": "4111-1111"})).result("charged 4111-1111")
    for one in (ada, other):
        await expect(one.page.locator("details.tool")).to_have_attribute("data-status", "done")
    await fabric.view(participant="operator:eve").session(session_name).redact(message.id, reason="A card number.")
    for one in (ada, other):
        answer = one.page.locator("article[data-role=assistant]")
        await expect(answer.locator("footer")).to_have_text("Removed")
        await expect(one.page.locator("details.tool")).to_have_count(0)
        assert "4111" not in await one.page.content()
    await ada.page.reload()
    await expect(ada.page.locator("article[data-role=assistant] footer")).to_have_text("Removed")
    assert "4111" not in await ada.page.content()


async def test_a_failed_run_says_so(device: OpenDevice, fabric: Fabric, session_name: str) -> None:
    ada = await device()
    try:
        async with fabric.session(session_name).run() as run:
            await run.text("I was about to")
            raise RunFailed("The model is gone.")
    except RunFailed:
        pass
    await expect(ada.page.locator(".note")).to_have_text("The agent failed: The model is gone.")


async def test_markdown_is_shown_and_html_is_not_obeyed(device: OpenDevice, fabric: Fabric, session_name: str) -> None:
    ada = await device()
    text = (
        "**bold** `code <i>` [site](https://example.org/) [page](docs/x.md) [bad](javascript:alert(1))\n\n"
        "<img src=x onerror=alert(1)>\n\n- one\n- two\n\n```\n<script>\n```\n"
    )
    async with scribe(fabric.session(session_name), text):
        pass
    answer = ada.page.locator("article[data-role=assistant][data-status=completed] .text")
    await expect(answer.locator("strong")).to_have_text("bold")
    await expect(answer.locator("a")).to_have_count(1)
    await expect(answer.locator("a")).to_have_attribute("href", "https://example.org/")
    await expect(answer.locator("li")).to_have_count(2)
    await expect(answer.locator("pre")).to_have_text("<script>")
    await expect(answer.locator("img, script, i")).to_have_count(0)


async def test_who_is_here_is_shown_and_who_leaves_is_not(device: OpenDevice, session_name: str) -> None:
    ada = await device()
    bob = await device(token="user:bob")
    pills = ada.page.locator("#members li")
    await expect(pills).to_have_count(2, timeout=15_000)
    await expect(pills.filter(has_text="ada (you)")).to_have_count(1)
    await bob.page.get_by_label("Message").press_sequentially("Hello the")
    await expect(ada.page.locator("#typing")).to_have_text("bob is typing…")
    await bob.context.close()
    await expect(pills).to_have_count(1, timeout=30_000)


async def test_a_new_chat_is_listed_by_its_first_words_on_every_device(device: OpenDevice, fabric: Fabric) -> None:
    ada = await device()
    await ada.page.get_by_role("link", name="New chat").click()
    await expect(ada.page.locator("#welcome")).to_be_visible()
    await ada.send("What is a mark?")
    await expect(ada.page).to_have_url(re.compile("#chat-"))
    listed = "#sessions a[aria-current=page]"
    await expect(ada.page.locator(listed)).to_contain_text("What is a mark?")
    name = await ada.page.locator(listed).get_attribute("data-session")
    other = await device()
    await other.page.locator(f"#sessions a[data-session='{name}']").click()
    await expect(other.page.locator("article .text")).to_have_text("What is a mark?")


async def test_a_session_that_is_deleted_says_so(device: OpenDevice, fabric: Fabric, session_name: str) -> None:
    ada = await device()
    await fabric.session(session_name).delete()
    await expect(ada.page.locator("#refused")).to_be_visible(timeout=20_000)
    await ada.page.get_by_role("link", name="Start a new chat").click()
    await expect(ada.page.locator("#welcome")).to_be_visible()


async def test_the_token_is_taken_out_of_the_address(device: OpenDevice, session_name: str) -> None:
    ada = await device()
    await expect(ada.page).to_have_url(f"{ada.link.url}/#{session_name}")
    await expect(ada.page.locator("#me")).to_have_text("user:ada")


async def test_a_narrow_page_keeps_its_list_behind_a_button(device: OpenDevice) -> None:
    ada = await device()
    await ada.page.set_viewport_size({"width": 390, "height": 780})
    await expect(ada.page.locator("#sidebar")).to_be_hidden()
    await ada.page.get_by_role("button", name="Show chats").click()
    await expect(ada.page.locator("#sidebar")).to_be_visible()
    assert await ada.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
