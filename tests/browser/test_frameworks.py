"""The examples' pages, `useChat` of the AI SDK and of TanStack AI in them, in a real Chromium, two tabs each.

Over the frameworks' own connections, unmodified, and over ours. What a framework cannot do is a test that says so.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, expect
from session_fabric import Fabric
from session_fabric.words.names import new_id

from tests.browser.agent import PARTICIPANT
from tests.browser.conftest import keep_screens
from tests.browser.gateway import Gateway, serving_pages
from tests.browser.tab import Tab, Way
from tests.browser.wordy import Wordy, serving
from tests.support.link import link_to
from tests.support.servers import NatsNode, running
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "tests" / "dialects" / "node" / "node_modules"
AI_SDK = [Way("ai-sdk", "http"), Way("ai-sdk", "websocket")]
TANSTACK = [Way("tanstack", "http"), Way("tanstack", "websocket")]
OURS = [Way("ai-sdk", "fabric"), Way("tanstack", "fabric")]
EVERY = [*AI_SDK, *TANSTACK, *OURS]
every_way = pytest.mark.parametrize("way", EVERY, ids=str)

OpenTab = Callable[[], Awaitable[Tab]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples' pages, bundled with the packages of the dialects' tests."""
    site = tmp_path_factory.mktemp("site")
    assert PACKAGES.is_dir(), f"run: make {(PACKAGES / '.installed').relative_to(ROOT)}"
    for name in ("ai-sdk", "tanstack"):
        example = ROOT / "examples" / f"react-{name}"
        shutil.copytree(example / "page", site / name)
        process = await asyncio.create_subprocess_exec(
            *("node", "../shared/build.mjs", site / name), cwd=example, env={**os.environ, "NODE_PATH": str(PACKAGES)}
        )
        assert await process.wait() == 0
    return site


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsNode]:
    node = NatsNode(tmp_path_factory.mktemp("nats"))
    with running(node):
        yield node


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fabric(broker: NatsNode) -> AsyncIterator[Fabric]:
    async with Fabric.connect(broker.url, participant=PARTICIPANT, streams=1) as fabric:
        yield fabric


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def agent(fabric: Fabric) -> AsyncIterator[Wordy]:
    async with serving(fabric) as wordy:
        yield wordy


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(
    broker: NatsNode, agent: Wordy, site: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    options = ("--demo", str(site), "--cookie", "token")
    async with serving_pages(broker.url, tmp_path_factory.mktemp("gateway"), options) as gateway:
        yield gateway


@pytest.fixture
def session() -> str:
    return new_id("chat-")


@pytest_asyncio.fixture(loop_scope="session")
async def tab(
    browser: Browser, gateway: Gateway, way: Way, session: str, request: pytest.FixtureRequest
) -> AsyncIterator[OpenTab]:
    """Opens tabs of one browser, each on a network of its own. When the test fails, what they show is kept."""
    opened: list[Tab] = []
    trouble: list[str] = []
    async with AsyncExitStack() as stack:
        context = await browser.new_context()
        stack.push_async_callback(context.close)

        async def open_tab() -> Tab:
            link = await stack.enter_async_context(link_to(gateway.port))
            page = await context.new_page()
            page.on("pageerror", lambda error: trouble.append(str(error)))
            opened.append(Tab(page, link, way, session))
            await opened[-1].load()
            return opened[-1]

        yield open_tab
        await keep_screens(request, [one.page for one in opened])
    assert trouble == []


async def half(tab: Tab, agent: Wordy) -> None:
    """Have four words asked for, and the first two said."""
    await tab.send("say one two three four")
    agent.go_on(tab.session, 2)
    await tab.shows("say one two three four", "one two ")


WHOLE = ("say one two three four", "one two three four ")


@every_way
async def test_an_answer_grows_word_by_word(tab: OpenTab, agent: Wordy, session: str) -> None:
    one = await tab()
    await one.send("say one two three four")
    for words in ("one ", "one two ", "one two three ", "one two three four "):
        agent.go_on(session)
        await one.shows("say one two three four", words)
    await one.is_ready()


@every_way
async def test_a_reload_in_mid_answer_has_all_of_it_once(tab: OpenTab, agent: Wordy, session: str) -> None:
    one = await tab()
    await half(one, agent)
    await one.reload()
    await one.shows("say one two three four", "one two ")
    agent.go_on(session)
    await one.shows("say one two three four", "one two three ")
    agent.go_on(session)
    await one.shows(*WHOLE)
    await one.is_ready()
    await one.send("say again")
    agent.go_on(session)
    await one.shows(*WHOLE, "say again", "again ")


@every_way
async def test_a_second_tab_has_the_conversation_and_the_answer_that_goes_on(
    tab: OpenTab, agent: Wordy, session: str
) -> None:
    one = await tab()
    await one.send("say before")
    agent.go_on(session)
    await one.shows("say before", "before ")
    await one.is_ready()
    await one.send("say one two")
    agent.go_on(session)
    await one.shows("say before", "before ", "say one two", "one ")
    other = await tab()
    await other.shows("say before", "before ", "say one two", "one ")
    agent.go_on(session)
    for each in (one, other):
        await each.shows("say before", "before ", "say one two", "one two ")
        await each.is_ready()


@pytest.mark.parametrize("way", [*TANSTACK, *OURS], ids=str)
async def test_a_network_that_is_cut_in_mid_answer_costs_nothing(tab: OpenTab, agent: Wordy, session: str) -> None:
    one, other = await tab(), await tab()
    await half(one, agent)
    one.link.cut()
    agent.go_on(session)
    one.link.mend()
    await one.shows("say one two three four", "one two three ")
    agent.go_on(session)
    await one.shows(*WHOLE)
    await one.is_ready()
    await other.reload()
    await other.shows(*WHOLE)


@pytest.mark.parametrize("way", AI_SDK, ids=str)
async def test_the_ai_sdk_goes_on_after_a_cut_when_its_tab_is_looked_at_and_not_before(
    tab: OpenTab, agent: Wordy, session: str
) -> None:
    """The limit is the AI SDK's: it has no timer that reconnects, only its mounting and `visibilitychange`."""
    one = await tab()
    await half(one, agent)
    one.link.cut()
    alert = one.page.get_by_role("alert")
    await expect(alert).to_be_visible()
    one.link.mend()
    agent.go_on(session)
    await one.is_looked_at()
    await one.shows("say one two three four", "one two three ")
    agent.go_on(session)
    await one.shows(*WHOLE)
    await one.is_ready()


@pytest.mark.parametrize("way", [AI_SDK[1], *TANSTACK, *OURS], ids=str)
async def test_a_browser_that_is_offline_for_a_while_has_what_was_said_meanwhile(
    tab: OpenTab, agent: Wordy, session: str
) -> None:
    one = await tab()
    await half(one, agent)
    # Chromium's own switch leaves an open WebSocket open and silent: the network goes silent as well.
    await one.page.context.set_offline(True)
    one.link.swallow()
    agent.go_on(session)
    assert await one.turns() == [("user", "say one two three four"), ("assistant", "one two ")]
    one.link.mend()
    await one.page.context.set_offline(False)
    await one.shows("say one two three four", "one two three ")
    agent.go_on(session)
    await one.shows(*WHOLE)
    await one.is_ready()


@pytest.mark.parametrize("way", OURS, ids=str)
async def test_an_idle_tab_shows_what_another_one_says_and_is_answered(
    tab: OpenTab, agent: Wordy, session: str
) -> None:
    one, other = await tab(), await tab()
    await half(one, agent)
    await other.shows("say one two three four", "one two ")
    agent.go_on(session, 2)
    for each in (one, other):
        await each.shows(*WHOLE)
        await each.is_ready()
    await other.send("say again")
    agent.go_on(session)
    for each in (one, other):
        await each.shows(*WHOLE, "say again", "again ")


@pytest.mark.parametrize("way", [*AI_SDK, *TANSTACK], ids=str)
async def test_an_idle_tab_of_a_framework_alone_shows_nothing_until_it_is_loaded(
    tab: OpenTab, agent: Wordy, session: str, way: Way
) -> None:
    """The limit is theirs: between the requests of their own neither listens to anything."""
    one, other = await tab(), await tab()
    if way.page == "ai-sdk":
        await asyncio.wait_for(other.resumed.wait(), 20)
    await half(one, agent)
    agent.go_on(session, 2)
    await one.shows(*WHOLE)
    await other.is_looked_at()
    await other.is_ready()
    assert await other.turns() == []
    await other.reload()
    await other.shows(*WHOLE)


@every_way
async def test_stop_ends_the_run_and_what_was_said_stays(
    tab: OpenTab, agent: Wordy, fabric: Fabric, session: str
) -> None:
    one = await tab()
    await half(one, agent)
    other = await tab()
    await other.shows("say one two three four", "one two ")
    await one.click("Stop")
    for each in (one, other):
        await each.is_ready()
        await each.shows("say one two three four", "one two ")
    assert [run.state for run in await fabric.session(session).runs()] == ["cancelled"]
    await one.send("say again")
    agent.go_on(session)
    await one.shows("say one two three four", "one two ", "say again", "again ")


@every_way
async def test_a_tool_of_the_page_is_called_and_the_answer_goes_on_with_what_it_gives(
    tab: OpenTab, fabric: Fabric, session: str
) -> None:
    one, other = await tab(), await tab()
    await one.send("where")
    title = await one.page.title()
    await one.shows("where", f"Let me see. It is {title}.")
    await one.is_ready()
    await expect(one.page.locator(".tool")).to_have_text("read_page")
    await expect(one.page.locator(".tool")).to_have_attribute("data-state", "done")
    await other.reload()
    await other.shows("where", f"Let me see. It is {title}.")
    assert len(await fabric.session(session).runs()) == 1


@every_way
async def test_an_approval_is_given_by_a_click_in_whichever_tab(
    tab: OpenTab, agent: Wordy, fabric: Fabric, session: str
) -> None:
    one = await tab()
    await one.send("delete")
    await one.shows("delete", "I found 3. ")
    await expect(one.page.get_by_role("group", name="Delete 3 files?")).to_contain_text("a, b and c")
    other = await tab()
    await other.shows("delete", "I found 3. ")
    question = other.page.get_by_role("group")

    async def approved() -> bool:
        # A click while the page still replays what it was loaded with is lost, the AI SDK's: one clicks again then.
        if await question.count():
            with suppress(Error):  # answered meanwhile
                await other.page.get_by_role("button", name="Approve").click(timeout=1000)
        return (await other.turns())[-1] == ("assistant", "I found 3. Deleted.")

    await eventually(approved, 20.0, every_s=0.5)
    await other.is_ready()
    await expect(other.page.get_by_role("group")).to_have_count(0)
    await one.reload()
    await one.shows("delete", "I found 3. Deleted.")
    assert len(await fabric.session(session).runs()) == 1
