"""An agent without rights at the broker, whose connection ends: pages at the gateway know at once."""

from __future__ import annotations

from tests.gateway.sockets import greeted
from tests.security.native_world import HELPER, World
from tests.support.brokers import vanish


async def test_a_page_is_told_of_a_native_agent_whose_connection_ends_and_then_of_its_run(world: World) -> None:
    async with world.native() as agent, greeted(world.house.url, world.token("user:ada")) as ada:
        await ada.open("chat-1")
        await ada.op("live")
        await agent.session("chat-1").run("r1").__aenter__()
        await ada.until_events(lambda events: bool(events) and events[-1]["type"] == "RUN_STARTED")
        await vanish(agent.broker)
        told = await ada.op("agent")
        assert (told["run"], told["agent"], told["connected"]) == ("r1", HELPER, False)
        assert ada.events[-1]["type"] == "RUN_STARTED"
        await ada.until_events(lambda events: events[-1]["body"].get("code") == "agent_lost")
