"""A tab with one of the examples' pages, over one of its wires."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from playwright.async_api import Page, Response, expect

from tests.support.link import Link
from tests.support.waiting import eventually

Turns = list[tuple[str, str]]
_TURNS = """() => [...document.querySelectorAll('article')].map(one => [
    one.dataset.role, [...one.querySelectorAll('.text')].map(part => part.textContent).join('')])"""


class Way(NamedTuple):
    """A page and its wire."""

    page: str
    wire: str

    @property
    def ours(self) -> bool:
        return self.wire == "fabric"

    def __str__(self) -> str:
        return f"{self.page}-{self.wire}"


@dataclass
class Tab:
    page: Page
    link: Link
    way: Way
    session: str
    # That a page of the AI SDK alone, which asks once when it is loaded whether an answer is under way, was answered.
    resumed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        def answered(response: Response) -> None:
            if response.url.endswith("/stream"):
                self.resumed.set()

        self.page.on("response", answered)
        self.page.on("websocket", lambda socket: socket.on("framereceived", lambda _: self.resumed.set()))

    async def load(self) -> None:
        """Open the page, anew where it is open."""
        await self.page.goto("about:blank")
        address = f"{self.link.url}/{self.way.page}/index.html#token=user:ada&chat={self.session}&wire={self.way.wire}"
        await self.page.goto(address)
        await self.page.locator("main").wait_for()

    async def reload(self) -> None:
        await self.page.reload()
        await self.page.locator("main").wait_for()

    async def send(self, text: str) -> None:
        await self.page.get_by_label("Message").fill(text)
        await self.page.get_by_label("Message").press("Enter")

    async def click(self, button: str) -> None:
        await self.page.get_by_role("button", name=button).click()

    async def turns(self) -> Turns:
        return [(role, text) for role, text in await self.page.evaluate(_TURNS)]

    async def shows(self, *turns: str) -> None:
        """Wait until the page shows exactly this, the user's turns and the agent's in turn."""
        wanted = [("assistant" if number % 2 else "user", text) for number, text in enumerate(turns)]

        async def exact() -> bool:
            seen = await self.turns()
            assert seen == wanted, f"{seen}, not {wanted}"
            return True

        await eventually(exact, 20.0, every_s=0.02)

    async def is_ready(self) -> None:
        """Wait until no answer is under way, as far as the page knows."""
        await expect(self.page.locator("main")).to_have_attribute("data-status", "ready", timeout=15_000)

    async def is_looked_at(self) -> None:
        """Tell the page what a browser tells a tab that is brought to the front."""
        await self.page.evaluate("() => void document.dispatchEvent(new Event('visibilitychange'))")
