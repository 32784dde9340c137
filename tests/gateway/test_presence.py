"""Who is there: joins, leaves, reloads, and gateways that die."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric import Fabric, presence
from session_fabric.words.subjects import Place

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import Client, Frame, greeted
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "GRACE_S", 0.3)
    monkeypatch.setattr(presence, "TRY_AGAIN_S", 0.05)


def about(events: list[Frame]) -> list[tuple[str, str]]:
    """Return joins and leaves: what, and of which device."""
    return [
        (event["type"].removeprefix("presence."), event["body"]["device"])
        for event in events
        if event["type"].startswith("presence.")
    ]


async def watching(client: Client) -> None:
    await client.open("s1")
    await client.op("live")


async def test_a_device_that_shows_itself_joins_and_leaves(house: Running) -> None:
    async with greeted(house.url, house.token("user:eve")) as eve:
        await watching(eve)
        async with greeted(house.url, house.token("user:ada"), device="d1") as ada:
            await ada.open("s1", presence={"name": "Ada"})
            events = await eve.until_events(lambda events: about(events) == [("joined", "d1")])
            body = events[-1]["body"]
            assert (body["participant"], body["data"]) == ("user:ada", {"name": "Ada"})
            members = (await eve.ask("who", session="s1"))["members"]
            assert [(m["participant"], m["device"], m["data"]) for m in members] == [
                ("user:ada", "d1", {"name": "Ada"})
            ]
        await eve.until_events(lambda events: about(events) == [("joined", "d1"), ("left", "d1")])
        assert (await eve.ask("who", session="s1"))["members"] == []


async def test_who_does_not_show_itself_is_not_there(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        await watching(client)
        assert (await client.ask("who", session="s1"))["members"] == []
        assert about(client.events) == []


async def test_a_reload_within_the_grace_is_neither_a_leave_nor_a_join(house: Running) -> None:
    async with greeted(house.url, house.token("user:eve")) as eve:
        await watching(eve)
        for _ in range(3):
            async with greeted(house.url, house.token("user:ada"), device="d1") as ada:
                await ada.open("s1", presence={})
                await eve.until_events(lambda events: ("joined", "d1") in about(events))
        await eve.until_events(lambda events: ("left", "d1") in about(events))
        assert about(eve.events) == [("joined", "d1"), ("left", "d1")]


async def test_two_devices_of_a_participant_are_two_members(house: Running) -> None:
    async with (
        greeted(house.url, house.token("user:ada"), device="d1") as one,
        greeted(house.url, house.token("user:ada"), device="d2") as two,
    ):
        await one.open("s1", presence={})
        await two.open("s1", presence={})

        async def devices() -> bool:
            members = (await one.ask("who", session="s1"))["members"]
            return sorted(m["device"] for m in members) == ["d1", "d2"]

        await eventually(devices)


async def test_presence_data_that_is_too_large_is_refused(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        assert (await client.ask("open", session="s1", presence={"x": "y" * 5000}))["code"] == "too_large"


async def test_moving_to_another_gateway_is_not_a_leave(start: Start) -> None:
    async with (
        start() as first,
        start() as second,
        greeted(second.url, second.token("user:eve")) as eve,
    ):
        await watching(eve)
        async with greeted(first.url, first.token("user:ada"), device="d1") as ada:
            await ada.open("s1", presence={})
            await eve.until_events(lambda events: about(events) == [("joined", "d1")])
            async with greeted(second.url, second.token("user:ada"), device="d1") as again:
                await again.open("s1", presence={})
                place = Place(first.tenant, "s1")
                bucket = first.gateway.fabric.broker.bucket(presence.BUCKET)

                async def both() -> bool:
                    return len(await bucket.entries(place.key())) == 2

                await eventually(both)
                await ada.socket.close()

                async def one() -> bool:
                    return len(await bucket.entries(place.key())) == 1

                await eventually(one)
                assert len((await eve.ask("who", session="s1"))["members"]) == 1
                await eve.ask("ping")
                assert about(eve.events) == [("joined", "d1")]


async def test_the_members_of_a_gateway_that_is_gone_leave_once(start: Start, agent: Fabric) -> None:
    async with start() as second, start() as third, greeted(second.url, second.token("user:eve")) as eve:
        await watching(eve)
        async with start() as first, greeted(first.url, first.token("user:ada"), device="d1") as ada:
            await ada.open("s1", presence={})
            await eve.until_events(lambda events: about(events) == [("joined", "d1")])
            # It dies: nobody removes its members, and its lease ends.
            await first.gateway.stop()
            left = await eve.until_events(lambda events: ("left", "d1") in about(events), 20)
            assert left[-1]["body"]["reason"] == "lost"
        bucket = third.gateway.fabric.broker.bucket(presence.BUCKET)

        async def none_left() -> bool:
            return await bucket.entries(Place(second.tenant, "s1").key()) == []

        await eventually(none_left)
        await asyncio.sleep(0)
        assert about(eve.events) == [("joined", "d1"), ("left", "d1")]


async def test_a_deleted_session_is_not_made_anew_by_those_who_leave_it(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token("user:ada"), device="d1") as ada:
        await ada.open("s1", presence={})
        await ada.until_events(lambda events: ("joined", "d1") in about(events))
        await agent.session("s1").delete()
        assert (await ada.op("gone"))["code"] == "session_gone"
        await eventually(lambda: not house.gateway.presence._locals)
    assert (await agent.sessions()).records == []
