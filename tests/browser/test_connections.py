"""Where WebSockets are blocked, over HTTP/1.1: a browser has six connections to a host, for all its tabs."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.browser.conftest import OpenDevice

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPEN = """({ many, name }) => {
  window.chats = Array.from({ length: many }, (_, n) => fabric.client.session(`${name}-${n}`).conversation());
}"""
LIVE = "() => chats.every(({ stage }) => stage === 'live')"
# Whoever sends is answered, and hears of it in the log.
SAY = "() => Promise.all(chats.map((chat) => chat.send('Hello')))"
HEARD = "() => chats.every(({ messages, sending }) => messages.length === 1 && sending.length === 0)"


async def opens(page: Page, name: str, many: int) -> None:
    await page.evaluate(OPEN, {"many": many, "name": name})
    await page.wait_for_function(LIVE)


@pytest.mark.parametrize("transport", ["sse", "long-poll"])
async def test_more_sessions_than_a_browser_has_connections_are_open_in_several_tabs(
    transport: str, device: OpenDevice, session_name: str
) -> None:
    without = "delete window.WebSocket;" + ("delete window.TextDecoderStream;" if transport == "long-poll" else "")
    first = await device(script=without)
    pages = [first.page, *[await first.context.new_page() for _ in range(3)]]
    for number, page in enumerate(pages):
        if page is not first.page:
            await page.goto(f"{first.link.url}/#token=user:ada&session={session_name}-of-{number}")
            await page.wait_for_function("() => window.fabric?.chat.stage === 'live'")
        await opens(page, f"{session_name}-{number}", 2)
    for page in pages:
        await page.evaluate(SAY)
        await page.wait_for_function(HEARD)
    # Nobody's is taken for one that is kept back on its way, because it had to wait for the others'.
    assert [await page.evaluate("() => fabric.client.status.transport") for page in pages] == [transport] * len(pages)
