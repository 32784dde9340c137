"""A real Chromium for the whole run, a gateway of each test's own, and devices on networks of their own.

All tests here run in one loop, the browser's: `pytestmark = pytest.mark.asyncio(loop_scope="session")`. What a test
opens is a context of its own, as apart from the others' as browsers are.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Page, async_playwright
from session_fabric import Fabric
from session_fabric.words.names import new_id

from tests.browser.agent import PARTICIPANT
from tests.browser.device import Device
from tests.browser.gateway import Gateway, serving_pages
from tests.support.link import link_to
from tests.support.servers import NatsNode

RESULTS = Path(__file__).parents[2] / "test-results"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FAILED = pytest.StashKey[bool]()

Reported = Generator[None, pytest.TestReport, pytest.TestReport]
OpenDevice = Callable[..., Awaitable[Device]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Reported:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


async def keep_screens(request: pytest.FixtureRequest, pages: Sequence[Page]) -> None:
    """Keep what pages show, where the test has failed."""
    if not request.node.stash.get(FAILED, True):
        return
    RESULTS.mkdir(exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", request.node.name)[:120]
    for number, page in enumerate(pages, 1):
        with suppress(Error):
            await page.screenshot(path=RESULTS / f"{name}-{number}.png")


def chromium() -> str:
    """Return the system's browser. A missing one fails, it never skips."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise RuntimeError("Chromium is missing: apt-get install chromium")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def fabric(own_server: NatsNode) -> AsyncIterator[Fabric]:
    """The agent's own connection, past every gateway."""
    async with Fabric.connect(own_server.url, participant=PARTICIPANT, streams=1) as fabric:
        yield fabric


@pytest.fixture
def options() -> Sequence[str]:
    """What the gateway is told besides; for a module to say."""
    return ()


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(
    own_server: NatsNode, fabric: Fabric, options: Sequence[str], tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with serving_pages(own_server.url, tmp_path, options) as gateway:
        yield gateway


@pytest.fixture
def session_name() -> str:
    return new_id("chat-")


@pytest_asyncio.fixture(loop_scope="session")
async def device(
    browser: Browser, gateway: Gateway, session_name: str, request: pytest.FixtureRequest
) -> AsyncIterator[OpenDevice]:
    """Opens devices: `await device()` is one that has the session open. When the test fails, what they show is kept."""
    opened: list[Device] = []
    async with AsyncExitStack() as stack:

        async def open(
            *,
            token: str = "user:ada",
            visit: bool = True,
            script: str | None = None,
            operator: bool = False,
            session: str = session_name,
        ) -> Device:
            link = await stack.enter_async_context(link_to(gateway.port))
            context = await browser.new_context()
            if script is not None:
                await context.add_init_script(script)
            page = await context.new_page()
            made = Device(page, context, link, session, operator)
            page.on("pageerror", lambda error: made.trouble.append(str(error)))
            opened.append(made)
            if visit:
                await made.visit(token=token)
            return made

        yield open
        await keep_screens(request, [one.page for one in opened])
        for one in opened:
            with suppress(Error):
                await one.context.close()
        assert [error for one in opened for error in one.trouble] == []
