"""One device of a user: a browser context with the demo page in it, on a network of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import BrowserContext, Page, expect

from tests.support.link import Link
from tests.support.waiting import eventually

Shown = list[tuple[str, str, str]]

# What the page's model holds, and what its paragraphs show.
_MODEL = "() => fabric.chat.messages.map(m => [m.role, m.content, m.status])"
_PAGE = """() => [...document.querySelectorAll('#log article')].map(a => [
    a.dataset.role,
    a.dataset.role === 'user'
        ? a.querySelector('[data-text]').textContent
        : [...a.querySelectorAll('[data-text] > p')].map(p => p.textContent).join('\\n\\n'),
    a.dataset.status])"""


@dataclass
class Device:
    page: Page
    context: BrowserContext
    link: Link
    session: str
    operator: bool = False
    trouble: list[str] = field(default_factory=list)

    async def visit(self, *, token: str = "user:ada") -> None:
        path = "operator.html" if self.operator else ""
        await self.page.goto(f"{self.link.url}/{path}#token={token}&session={self.session}")
        await (self.is_live() if self.session else self.connection_is("live"))

    async def send(self, text: str) -> None:
        await self.page.get_by_label("Message").fill(text)
        await self.page.get_by_label("Message").press("Enter")

    async def is_live(self) -> None:
        """Wait until the connection is there and the session's history has been shown."""
        await self.connection_is("live")
        await expect(self.page.locator("#scroller")).to_have_attribute("data-stage", "live", timeout=15_000)

    async def connection_is(self, state: str) -> None:
        await expect(self.page.locator("body")).to_have_attribute("data-connection", state, timeout=20_000)

    async def model(self) -> Shown:
        return [(role, content, status) for role, content, status in await self.page.evaluate(_MODEL)]

    async def shown(self) -> Shown:
        return [(role, text, status) for role, text, status in await self.page.evaluate(_PAGE)]

    async def text(self) -> str:
        """What the newest message says."""
        model = await self.model()
        return model[-1][1] if model else ""

    async def ends_with(self, wanted: Shown) -> None:
        """Wait until the model and the page hold exactly this."""

        async def exact() -> bool:
            assert await self.model() == wanted
            assert await self.shown() == wanted
            return True

        await eventually(exact, 30.0, every_s=0.05)

    async def evaluate(self, script: str) -> Any:
        return await self.page.evaluate(script)
