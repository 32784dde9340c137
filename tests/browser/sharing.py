"""Tabs of one browser with a page that shares its connection."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from playwright.async_api import Page

from tests.browser.device import Shown
from tests.browser.gateway import Gateway
from tests.support.link import Link
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
PAGE = Path(__file__).parent / "shared"
_BUNDLE = """
import { bundle } from "./scripts/bundle.mjs";
import { mkdirSync, writeFileSync } from "node:fs";
const to = process.argv[1];
mkdirSync(`${to}/client`, { recursive: true });
for (const entry of ["index", "life", "shared"]) writeFileSync(`${to}/client/${entry}.js`, await bundle({ entry }));
"""
_MODEL = "() => tab.chat.messages.map(m => [m.role, m.content, m.status])"


def build(site: Path) -> None:
    """Put the page and the client as it is built into a directory."""
    assert (CLIENT / "node_modules").is_dir(), "run: make clients/typescript/node_modules/.installed"
    site.mkdir(exist_ok=True)
    for file in PAGE.iterdir():
        (site / file.name).write_bytes(file.read_bytes())
    subprocess.run(("node", "--input-type=module", "-e", _BUNDLE, site), cwd=CLIENT, check=True)


async def counted(gateway: Gateway, name: str) -> float:
    """Return a gauge of the gateway's, of sockets alone where it tells them apart."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{gateway.port}/metrics") as response,
    ):
        text = await response.text()
    found = re.search(rf'^session_fabric_gateway_{name}(?:{{transport="websocket"}})? (\S+)$', text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


async def shares(gateway: Gateway, *, sockets: int, lanes: int) -> None:
    """Wait until the gateway has exactly so many sockets, and lanes on them."""

    async def so() -> bool:
        there = (await counted(gateway, "connections"), await counted(gateway, "lanes"))
        assert there == (sockets, lanes), f"(sockets, lanes) are {there}, not {(sockets, lanes)}"
        return True

    await eventually(so, 20.0)


@dataclass
class SharedTab:
    page: Page
    link: Link
    session: str
    device: str

    async def visit(self, token: str = "user:ada") -> None:
        said = f"token={quote(token)}&session={self.session}&device={self.device}"
        await self.page.goto(f"{self.link.url}/index.html#{said}")
        await self.is_live()

    async def is_live(self) -> None:
        await self.page.wait_for_function(
            "() => window.tab?.client.status.phase === 'live' && tab.chat.stage === 'live'", timeout=20_000
        )

    async def evaluate(self, script: str, arg: Any = None) -> Any:
        return await self.page.evaluate(script, arg)

    async def transport(self) -> str:
        return str(await self.evaluate("() => tab.client.status.transport"))

    async def send(self, text: str) -> None:
        await self.evaluate("text => void tab.chat.send(text)", text)

    async def model(self) -> Shown:
        return [(role, content, status) for role, content, status in await self.evaluate(_MODEL)]

    async def has(self, characters: float) -> None:
        """Wait until the newest message has so many characters, as Python counts them."""

        async def enough() -> bool:
            model = await self.model()
            return bool(model) and len(model[-1][1]) >= characters

        await eventually(enough, 30.0, every_s=0.02)

    async def ends_with(self, wanted: Shown) -> None:
        async def exact() -> bool:
            assert await self.model() == wanted
            return True

        await eventually(exact, 40.0, every_s=0.05)

    async def hang(self) -> Any:
        """Have nothing of the page run any more, without a word to it; `release` what is returned."""
        cdp = await self.page.context.new_cdp_session(self.page)
        await cdp.send("Debugger.enable")
        await cdp.send("Debugger.pause")
        return cdp

    @staticmethod
    async def release(cdp: Any) -> None:
        await cdp.send("Debugger.disable")
        await cdp.detach()
