"""Tabs of one browser share one connection, whatever becomes of the one that has it: nothing is lost or repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import jwt
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error
from session_fabric import Fabric

from tests.browser.agent import long_text, question, scribe
from tests.browser.gateway import Gateway
from tests.browser.sharing import SharedTab, build, counted, shares
from tests.browser.test_survival import conversation, logged
from tests.support.link import Link, link_to
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a secret of thirty-two bytes or more, for tests alone"
ASKED = "Tell me everything — 日本語 👩‍🚀"
ANSWER = long_text(45)

OpenTab = Callable[..., Awaitable[SharedTab]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    build(site)
    return site


@pytest.fixture
def options(site: Path) -> Sequence[str]:
    return ("--demo", str(site), "--dev-secret", SECRET)


@pytest_asyncio.fixture(loop_scope="session")
async def link(gateway: Gateway) -> AsyncIterator[Link]:
    """The browser's network."""
    async with link_to(gateway.port) as link:
        yield link


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, link: Link, session_name: str) -> AsyncIterator[OpenTab]:
    """Opens tabs of one browser, named `tab-1`, `tab-2` …; the first of them leads."""
    trouble: list[str] = []
    opened: list[SharedTab] = []
    async with AsyncExitStack() as stack:
        context = await browser.new_context()
        stack.push_async_callback(context.close)

        async def open_tab(
            *, token: str = "user:ada", script: str | None = None, session: str = session_name
        ) -> SharedTab:
            page = await context.new_page()
            page.on("pageerror", lambda error: trouble.append(str(error)))
            if script is not None:
                await page.add_init_script(script)
            opened.append(SharedTab(page, link, session, f"tab-{len(opened) + 1}"))
            await opened[-1].visit(token)
            return opened[-1]

        yield open_tab
    assert trouble == []


async def goes(tab: SharedTab) -> None:
    with suppress(Error):
        await tab.page.close()


async def crashes(tab: SharedTab) -> None:
    cdp = await tab.page.context.new_cdp_session(tab.page)
    crashed = asyncio.Event()
    tab.page.on("crash", lambda _: crashed.set())
    dying = asyncio.create_task(cdp.send("Page.crash"))
    await crashed.wait()
    dying.cancel()
    with suppress(Error, asyncio.CancelledError):
        await dying


async def freezes(tab: SharedTab) -> None:
    """Chromium freezes no tab of a browser without a screen: it is told what it would be, and does nothing more."""
    await tab.evaluate("() => void document.dispatchEvent(new Event('freeze'))")
    await tab.hang()


async def hangs(tab: SharedTab) -> None:
    await tab.hang()


async def goes_elsewhere(tab: SharedTab) -> None:
    await tab.page.goto("about:blank")


async def test_three_tabs_are_one_connection_and_all_show_the_same(
    tab: OpenTab, gateway: Gateway, fabric: Fabric, session_name: str
) -> None:
    tabs = [await tab(), await tab(), await tab()]
    await shares(gateway, sockets=1, lanes=3)
    assert [await one.transport() for one in tabs] == ["shared"] * 3
    await tabs[1].send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER):
        pass
    for one in tabs:
        await one.ends_with(conversation(ASKED, ANSWER))
    assert await logged(fabric, session_name) == conversation(ASKED, ANSWER)
    await shares(gateway, sockets=1, lanes=3)
    await tabs[2].page.close()
    await shares(gateway, sockets=1, lanes=2)


@pytest.mark.parametrize("ends", [goes, crashes, freezes, hangs, goes_elsewhere])
async def test_the_tab_that_has_the_connection_ends_in_mid_answer(
    ends: Callable[[SharedTab], Awaitable[None]],
    tab: OpenTab,
    gateway: Gateway,
    fabric: Fabric,
    session_name: str,
) -> None:
    first, second, third = await tab(), await tab(), await tab()
    await second.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.4)
        await third.has(0.3 * len(ANSWER))
        await ends(first)
        agent.until(0.8)
        await second.has(0.7 * len(ANSWER))
        await second.send("And then?")
    for one in (second, third):
        await one.ends_with([*conversation(ASKED, ANSWER), ("user", "And then?", "completed")])
    assert len(await logged(fabric, session_name)) == 3
    if ends is hangs:
        return  # its page holds its old socket, as long as it hangs
    await shares(gateway, sockets=1, lanes=2)


async def test_a_tab_that_was_frozen_goes_on_where_it_was(
    tab: OpenTab, gateway: Gateway, fabric: Fabric, session_name: str
) -> None:
    first, second = await tab(), await tab()
    await first.evaluate("() => void document.dispatchEvent(new Event('freeze'))")
    await shares(gateway, sockets=1, lanes=1)
    await second.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER):
        pass
    await second.ends_with(conversation(ASKED, ANSWER))
    assert await first.model() == []
    await first.evaluate("() => void document.dispatchEvent(new Event('resume'))")
    await first.ends_with(conversation(ASKED, ANSWER))
    await shares(gateway, sockets=1, lanes=2)


async def test_a_tab_that_hung_goes_on_behind_the_one_that_took_over(
    tab: OpenTab, gateway: Gateway, fabric: Fabric, session_name: str
) -> None:
    first, second = await tab(), await tab()
    held = await first.hang()
    await second.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER):
        pass
    await second.ends_with(conversation(ASKED, ANSWER))
    await first.release(held)
    await first.ends_with(conversation(ASKED, ANSWER))
    await shares(gateway, sockets=1, lanes=2)


@pytest.mark.parametrize("how", ["cut", "swallow"])
async def test_a_network_that_goes_and_comes_back_costs_no_tab_anything(
    how: str, tab: OpenTab, link: Link, gateway: Gateway, fabric: Fabric, session_name: str
) -> None:
    tabs = [await tab(), await tab(), await tab()]
    await tabs[1].send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.3)
        await tabs[2].has(0.2 * len(ANSWER))
        link.cut() if how == "cut" else link.swallow()
        agent.until(0.7)
        await agent.has_written(0.7)
        for one in tabs:
            await one.page.wait_for_function("() => tab.client.status.phase === 'reconnecting'", timeout=20_000)
        link.mend()
        for one in tabs:
            await one.is_live()
    for one in tabs:
        await one.ends_with(conversation(ASKED, ANSWER))
    assert await counted(gateway, "connections") <= 1  # none where it took so long that other ways were looked for


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_gateway_that_ends_and_starts_again_costs_no_tab_anything(
    how: str, tab: OpenTab, gateway: Gateway, fabric: Fabric, session_name: str
) -> None:
    tabs = [await tab(), await tab()]
    await tabs[1].send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.3)
        await tabs[1].has(0.2 * len(ANSWER))
        if how == "killed":
            gateway.kill()
        else:
            await gateway.stop()
        agent.until(0.7)
        await agent.has_written(0.7)
        await gateway.start()
    for one in tabs:
        await one.ends_with(conversation(ASKED, ANSWER))
    # Where it takes long to come back, a tab looks for other ways too, as any client does.
    assert await counted(gateway, "connections") <= 1


async def test_other_participants_and_tabs_without_a_token_have_connections_of_their_own(
    tab: OpenTab, gateway: Gateway
) -> None:
    ada, bob, nobody = await tab(), await tab(token="user:bob"), await tab(token="")
    again = await tab()
    await shares(gateway, sockets=3, lanes=3)
    assert await nobody.transport() == "websocket"
    participants = [await one.evaluate("() => tab.client.participant") for one in (ada, bob, nobody, again)]
    assert participants == ["user:ada", "user:bob", "user:you", "user:ada"]


def signed(participant: str, expires_in_s: float) -> str:
    claims = {"sub": participant, "tenant": "default", "exp": int(time.time() + expires_in_s)}
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def test_a_tabs_token_is_renewed_without_the_others_noticing(tab: OpenTab, gateway: Gateway) -> None:
    first, second = await tab(token=signed("user:ada", 600)), await tab(token=signed("user:ada", 2))
    await shares(gateway, sockets=1, lanes=2)
    await second.evaluate("fresh => void tab.tokens.splice(0, 1, fresh)", signed("user:ada", 600))
    await second.page.wait_for_function("() => tab.phases.includes('reconnecting')", timeout=20_000)
    await second.is_live()
    assert await second.evaluate("() => tab.asked") == 2
    assert set(await first.evaluate("() => tab.phases")) == {"live"}
    await shares(gateway, sockets=1, lanes=2)


async def test_a_tab_whose_user_has_changed_leaves_the_others(tab: OpenTab, gateway: Gateway) -> None:
    first, second = await tab(token=signed("user:ada", 600)), await tab(token=signed("user:ada", 2))
    await second.evaluate("fresh => void tab.tokens.splice(0, 1, fresh)", signed("user:bob", 600))
    await second.page.wait_for_function("() => tab.client.participant === 'user:bob'", timeout=20_000)
    await shares(gateway, sockets=2, lanes=2)
    assert await first.evaluate("() => tab.client.participant") == "user:ada"


async def test_what_is_asked_of_one_tab_is_answered_by_it_and_what_is_asked_of_all_by_one(
    tab: OpenTab, fabric: Fabric, gateway: Gateway, session_name: str
) -> None:
    tabs = [await tab(), await tab(), await tab()]
    async with fabric.session(session_name).run() as run:
        for one in reversed(tabs):
            page = await run.client_tool(
                "read_page", {}, to={"participant": "user:ada", "device": one.device}, deadline_s=30
            )
            assert page == {"title": one.device}
        assert [await one.evaluate("() => tab.called") for one in tabs] == [1, 1, 1]
        for _ in range(5):
            await run.client_tool("read_page", {}, to="user:ada", deadline_s=30)
        assert sum([await one.evaluate("() => tab.called") for one in tabs]) == 3 + 5
    await shares(gateway, sockets=1, lanes=3)


async def test_tabs_are_members_of_their_own_and_hear_each_other(
    tab: OpenTab, fabric: Fabric, gateway: Gateway, session_name: str
) -> None:
    tabs = [await tab(), await tab(), await tab()]

    async def present(*devices: str) -> bool:
        for one in tabs[: len(devices)]:
            seen = await one.evaluate("() => tab.presence.devices.map(d => d.device).sort()")
            assert seen == sorted(devices), seen
        return True

    await eventually(lambda: present("tab-1", "tab-2", "tab-3"), 20.0)
    await tabs[1].evaluate("() => void (tab.session.on('signal', ({ body }) => (tab.heard = body)))")
    await tabs[2].evaluate("() => tab.session.signal({ at: 'line 3' })")
    await tabs[1].page.wait_for_function("() => tab.heard?.at === 'line 3'")
    await crashes(tabs[2])
    await eventually(lambda: present("tab-1", "tab-2"), 20.0)
    await tabs[1].send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.2)
        await tabs[1].has(0.1 * len(ANSWER))
        outcome = await tabs[1].evaluate(
            """async () => tab.outcomeOf(await tab.session.control('interrupt', tab.chat.activeRuns[0].id))"""
        )
        assert outcome["outcome"] == "accepted"
        agent.until(1.0)


async def test_a_tab_that_takes_nothing_holds_nobody_up_and_loses_nothing(
    tab: OpenTab, fabric: Fabric, gateway: Gateway, session_name: str
) -> None:
    first, slow, quick = await tab(), await tab(), await tab()
    held = await slow.hang()
    session = fabric.session(session_name)
    texts = [f"{number} {'x' * 20_000}" for number in range(60)]
    for number, text in enumerate(texts):
        await session.append({"type": "message.user", "message": {"id": f"m{number}", "role": "user", "content": text}})
    wanted = [("user", text, "completed") for text in texts]
    for one in (first, quick):
        await one.ends_with(wanted)
    await slow.release(held)
    await slow.ends_with(wanted)
    late = await tab()
    await late.ends_with(wanted)
    await shares(gateway, sockets=1, lanes=4)


@pytest.mark.parametrize("missing", ["locks", "channels"])
async def test_where_a_browser_lacks_something_each_tab_has_its_own_connection(
    missing: str, tab: OpenTab, gateway: Gateway
) -> None:
    script = "delete Navigator.prototype.locks" if missing == "locks" else "delete window.BroadcastChannel"
    tabs = [await tab(script=script), await tab(script=script)]
    await shares(gateway, sockets=2, lanes=0)
    assert [await one.transport() for one in tabs] == ["websocket"] * 2


async def test_where_nobody_who_leads_ever_answers_each_tab_has_its_own_connection(
    tab: OpenTab, gateway: Gateway
) -> None:
    deaf = "navigator.locks.request = () => new Promise(() => undefined)"
    tabs = [await tab(script=deaf), await tab(script=deaf)]
    await shares(gateway, sockets=2, lanes=0)
    assert [await one.transport() for one in tabs] == ["websocket"] * 2


async def test_a_page_that_comes_back_shares_again(tab: OpenTab, gateway: Gateway) -> None:
    first, second = await tab(), await tab()
    await first.page.goto("about:blank")
    await shares(gateway, sockets=1, lanes=1)
    await first.page.go_back()
    await first.is_live()
    await second.is_live()
    await shares(gateway, sockets=1, lanes=2)


async def test_a_client_that_is_closed_leaves_the_connection_to_the_others(
    tab: OpenTab, fabric: Fabric, gateway: Gateway, session_name: str
) -> None:
    first, second = await tab(), await tab()
    await first.evaluate("() => tab.client.close()")
    await shares(gateway, sockets=1, lanes=1)
    await second.is_live()
    await second.send(ASKED)
    assert (await question(fabric, session_name)).actor == "user:ada"


async def test_a_tab_whose_hello_comes_after_that_of_a_later_lane_is_live_at_once(
    tab: OpenTab, gateway: Gateway
) -> None:
    slow = """
    const { set } = Object.getOwnPropertyDescriptor(BroadcastChannel.prototype, "onmessage");
    Object.defineProperty(BroadcastChannel.prototype, "onmessage", {
      set(heard) {
        set.call(this, (event) => {
          if (window.late !== undefined && event.data.opened) window.late.push(() => heard(event));
          else heard(event);
        });
      },
    });
    """
    first, second, third = await tab(), await tab(), await tab(script=slow)
    await third.evaluate("() => void (window.late = [])")
    await second.evaluate("() => void (tab.tokens = [new Promise((resolve) => (tab.goOn = resolve))])")
    await first.evaluate("() => tab.client.close()")
    # The second leads by now, has a lane for the third, and none of its own yet.
    await third.page.wait_for_function("() => window.late.length > 0")
    await second.evaluate("() => tab.goOn('user:ada')")
    await second.is_live()
    await third.evaluate("() => { for (const hear of window.late.splice(0)) hear(); delete window.late; }")
    await third.is_live()
    assert await third.evaluate("() => tab.asked") == 2
    await shares(gateway, sockets=1, lanes=2)
