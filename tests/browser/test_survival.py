"""Whatever happens in mid-answer, every device ends with exactly what the agent wrote, once, in order."""

from __future__ import annotations

from typing import Any

import pytest
from session_fabric import Fabric

from tests.browser.agent import long_text, question, scribe
from tests.browser.conftest import OpenDevice
from tests.browser.device import Device, Shown
from tests.browser.gateway import Gateway
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASKED = "Tell me everything — 日本語 👩‍🚀 & <b>tags</b>"
# Over 8 KiB, so that snapshots are among what comes.
ANSWER = long_text(45)


def conversation(*turns: str) -> Shown:
    return [("user" if n % 2 == 0 else "assistant", text, "completed") for n, text in enumerate(turns)]


async def logged(fabric: Fabric, session: str) -> Shown:
    page = await fabric.session(session).messages()
    return [(m.role, m.content, m.status) for m in page.messages]


async def has_some(device: Device, share: float) -> None:
    """Wait until the device has this share of the answer."""

    async def enough() -> bool:
        return len(await device.text()) >= share * len(ANSWER)

    await eventually(enough, 30.0, every_s=0.02)


async def test_what_is_sent_is_answered_and_both_are_shown_as_written(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    await ada.send(ASKED)
    event = await question(fabric, session_name)
    assert event.actor == "user:ada"
    async with scribe(fabric.session(session_name), ANSWER):
        pass
    await ada.ends_with(conversation(ASKED, ANSWER))
    assert await logged(fabric, session_name) == conversation(ASKED, ANSWER)


async def test_a_reload_in_mid_answer_continues_it(device: OpenDevice, fabric: Fabric, session_name: str) -> None:
    ada = await device()
    await ada.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.5)
        await has_some(ada, 0.3)
        agent.until(0.9)
        await ada.page.reload()
        await ada.is_live()
        await has_some(ada, 0.5)
    await ada.ends_with(conversation(ASKED, ANSWER))


async def test_two_tabs_mirror_both_sides(device: OpenDevice, fabric: Fabric, session_name: str) -> None:
    first = await device()
    second = await device()
    await first.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.5)
        await has_some(first, 0.4)
        await has_some(second, 0.4)
    await second.ends_with(conversation(ASKED, ANSWER))
    await second.send("And then?")
    await question(fabric, session_name, after=1)
    async with scribe(fabric.session(session_name), "Nothing."):
        pass
    for tab in (first, second):
        await tab.ends_with(conversation(ASKED, ANSWER, "And then?", "Nothing."))


@pytest.mark.parametrize("how", ["cut", "swallow", "offline"])
async def test_a_network_that_goes_and_comes_back_costs_nothing(
    how: str, device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    witness = await device()
    await ada.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.3)
        await has_some(ada, 0.2)
        # Chromium's own switch leaves an open WebSocket open and silent: so the network really goes as well.
        if how == "offline":
            await ada.context.set_offline(True)
        if how == "cut":
            ada.link.cut()
        else:
            ada.link.swallow()
        agent.until(0.7)
        await agent.has_written(0.7)
        await ada.connection_is("reconnecting")
        assert len(await ada.text()) < 0.6 * len(ANSWER)
        ada.link.mend()
        await ada.context.set_offline(False)
        await ada.is_live()
        await has_some(ada, 0.65)
    for one in (ada, witness):
        await one.ends_with(conversation(ASKED, ANSWER))


async def test_what_is_sent_without_a_network_arrives_once_when_it_is_back(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    ada.link.cut()
    await ada.connection_is("reconnecting")
    await ada.send(ASKED)
    await ada.page.locator("article.sending").wait_for()
    ada.link.mend()
    await question(fabric, session_name)
    await ada.ends_with(conversation(ASKED))
    assert await logged(fabric, session_name) == conversation(ASKED)


async def test_what_was_sent_into_a_silent_network_arrives_once(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    ada.link.swallow()
    await ada.send(ASKED)
    await ada.connection_is("reconnecting")
    # Now the first try arrives too, late.
    ada.link.mend()
    await ada.is_live()
    await ada.ends_with(conversation(ASKED))
    assert await logged(fabric, session_name) == conversation(ASKED)


async def test_what_was_under_way_when_the_page_was_reloaded_arrives_once(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    ada.link.swallow()
    await ada.send(ASKED)
    await ada.page.locator("article.sending").wait_for()
    ada.link.mend()
    await ada.page.reload()
    await ada.is_live()
    await ada.ends_with(conversation(ASKED))
    assert await logged(fabric, session_name) == conversation(ASKED)


async def test_what_was_never_sent_when_the_page_was_reloaded_is_sent(
    device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    ada = await device()
    ada.link.cut()
    await ada.connection_is("reconnecting")
    await ada.send(ASKED)
    await ada.page.locator("article.sending").wait_for()
    # The page goes away with what it has not sent, and comes back when the network does.
    await ada.page.goto("about:blank")
    ada.link.mend()
    await ada.page.goto(f"{ada.link.url}/#{session_name}")
    await ada.ends_with(conversation(ASKED))
    assert await logged(fabric, session_name) == conversation(ASKED)


async def test_a_gateway_that_is_killed_and_started_again_costs_nothing(
    device: OpenDevice, fabric: Fabric, gateway: Gateway, session_name: str
) -> None:
    ada = await device()
    await ada.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.3)
        await has_some(ada, 0.2)
        gateway.kill()
        agent.until(0.7)
        await agent.has_written(0.7)
        await ada.connection_is("reconnecting")
        await gateway.start()
        await ada.is_live()
        await has_some(ada, 0.65)
    await ada.ends_with(conversation(ASKED, ANSWER))
    assert await logged(fabric, session_name) == conversation(ASKED, ANSWER)


async def test_a_gateway_that_stops_in_good_order_is_followed_to_the_next(
    device: OpenDevice, fabric: Fabric, gateway: Gateway, session_name: str
) -> None:
    ada = await device()
    await ada.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.3)
        await has_some(ada, 0.2)
        await gateway.stop()
        agent.until(0.7)
        await gateway.start()
        await has_some(ada, 0.65)
    await ada.ends_with(conversation(ASKED, ANSWER))


async def test_a_broker_that_is_killed_and_started_again_costs_nothing(
    device: OpenDevice, fabric: Fabric, own_server: NatsNode, session_name: str
) -> None:
    ada = await device()
    await ada.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.3)
        await has_some(ada, 0.2)
        own_server.kill()
        await ada.connection_is("broker-lost")
        agent.until(0.7)
        await own_server.restart()
        await ada.connection_is("live")
        await has_some(ada, 0.65)
    await ada.ends_with(conversation(ASKED, ANSWER))


# Of an answer that is completed these may be left out, for the completion that stands for them.
PASSING = {"TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "message.snapshot"}
KEEP = (
    """name => { window.kept = []; fabric.client.session(name).on("events", events => void kept.push(...events)); }"""
)


async def kept(device: Device) -> dict[str, dict[str, Any]]:
    """Return the events that the device was given since `KEEP`, by offset."""
    events: list[dict[str, Any]] = await device.evaluate("() => kept")
    # Compact deltas, which a socket alone has, say no time.
    by_offset = {event["offset"]: {**event, "ts": "at" not in event and event["ts"]} for event in events}
    assert len(by_offset) == len(events), "given twice"
    return by_offset


@pytest.mark.parametrize("transport", ["sse", "long-poll"])
async def test_where_websockets_cannot_be_had_the_log_is_the_same(
    transport: str, device: OpenDevice, fabric: Fabric, session_name: str
) -> None:
    without = "delete window.WebSocket;" + ("delete window.TextDecoderStream;" if transport == "long-poll" else "")
    ada = await device(script=without)
    witness = await device()
    for one, way in ((ada, transport), (witness, "websocket")):
        assert await one.evaluate("() => fabric.client.status.transport") == way
        await one.page.evaluate(KEEP, session_name)
    await ada.send(ASKED)
    await question(fabric, session_name)
    async with scribe(fabric.session(session_name), ANSWER) as agent:
        agent.until(0.3)
        await has_some(ada, 0.2)
        ada.link.cut()
        await ada.connection_is("reconnecting")
        agent.until(0.7)
        await agent.has_written(0.7)
        ada.link.mend()
        await has_some(ada, 0.65)
    await witness.send("And then?")
    for one in (ada, witness):
        await one.ends_with(conversation(ASKED, ANSWER, "And then?"))
    had, told = await kept(ada), await kept(witness)
    assert [had[offset] for offset in had.keys() & told.keys()] == [told[offset] for offset in had.keys() & told.keys()]
    stays = [{offset for offset, event in of.items() if event["type"] not in PASSING} for of in (had, told)]
    assert stays[0] == stays[1]
    # Not of what was made up for alone: deltas too have come, at the socket's offsets.
    assert any(event["type"] == "TEXT_MESSAGE_CONTENT" and offset in told for offset, event in had.items())
