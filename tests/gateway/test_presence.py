"""Who is there: joins, leaves, reloads, and gateways that die."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import aiohttp
import pytest
from session_fabric import Fabric, presence
from session_fabric.words.subjects import Place

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import Client, Frame, greeted
from tests.support.link import Link
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


def shown(members: list[Frame]) -> list[tuple[str, Frame, str | None]]:
    return [(member["device"], member["data"], member["status"]) for member in members]


async def test_a_device_changes_what_it_shows_and_leaves_with_its_session_still_open(house: Running) -> None:
    async with (
        greeted(house.url, house.token("user:eve")) as eve,
        greeted(house.url, house.token("user:ada"), device="d1") as ada,
    ):
        await watching(eve)
        await ada.open("s1")
        for fields, expected in (
            ({"data": {"name": "Ada"}}, ("d1", {"name": "Ada"}, None)),
            ({"status": "waiting"}, ("d1", {"name": "Ada"}, "waiting")),
            ({"data": {}}, ("d1", {}, "waiting")),
            ({"status": None}, ("d1", {}, None)),
        ):
            assert (await ada.ask("presence", session="s1", **fields))["op"] == "ok"
            assert shown((await eve.ask("who", session="s1"))["members"]) == [expected]
        assert (await ada.ask("presence", session="s1", leave=True))["op"] == "ok"
        assert (await eve.ask("who", session="s1"))["members"] == []
        assert (await ada.ask("presence", session="s1", leave=True))["op"] == "ok"
        await eve.until_events(lambda events: ("left", "d1") in about(events))
        assert [kind for kind, _ in about(eve.events)] == ["joined", "updated", "updated", "updated", "left"]
        assert eve.events[-1]["body"]["reason"] == "closed"
        assert (await ada.ask("presence", session="s1", status="idle"))["op"] == "ok"
        assert shown((await eve.ask("who", session="s1"))["members"]) == [("d1", {}, "idle")]


async def test_presence_may_be_shown_in_one_go_with_open(house: Running) -> None:
    async with greeted(house.url, house.token(), device="d1") as ada:
        await ada.send(op="open", id=101, session="s1", presence={"name": "Ada"})
        await ada.send(op="presence", id=102, session="s1", status="idle")
        assert (await ada.until(lambda frame: frame.get("id") == 102))["op"] == "ok"
        assert shown((await ada.ask("who", session="s1"))["members"]) == [("d1", {"name": "Ada"}, "idle")]


async def test_what_cannot_be_shown_is_refused(house: Running) -> None:
    async with greeted(house.url, house.token(), device="d1") as ada:
        assert (await ada.ask("presence", session="s1", status="idle"))["code"] == "not_open"
        await ada.open("s1")
        refused = await ada.ask("presence", session="s1", status="asleep")
        assert (refused["code"], "thinking" in refused["hint"]) == ("invalid_request", True)
        assert (await ada.ask("presence", session="s1", data={"x": "y" * 5000}))["code"] == "too_large"
        assert (await ada.ask("who", session="s1"))["members"] == []


async def test_nobody_is_in_a_session_that_is_not_there(house: Running, http: aiohttp.ClientSession) -> None:
    async with greeted(house.url, house.token()) as ada:
        assert (await ada.ask("who", session="nowhere"))["code"] == "session_not_found"
    async with http.get("/v1/sessions/nowhere/presence") as response:
        assert (response.status, (await response.json())["code"]) == (404, "session_not_found")


async def test_members_over_http_have_their_status(house: Running, http: aiohttp.ClientSession) -> None:
    async with greeted(house.url, house.token(), device="d1") as ada:
        await ada.open("s1", presence={})
        await ada.ask("presence", session="s1", status="idle")
        async with http.get("/v1/sessions/s1/presence") as response:
            assert shown((await response.json())["members"]) == [("d1", {}, "idle")]


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "under load"])
async def test_a_browser_that_vanishes_without_a_word_has_left_for_the_others(
    start: Start, agent: Fabric, busy: bool
) -> None:
    async with start(heartbeat_s=1.0, stalled_s=1.25) as house, greeted(house.url, house.token("user:eve")) as eve:
        port = urlsplit(house.url).port
        assert port is not None
        link = Link(port)
        await link.start()
        try:
            await watching(eve)
            async with greeted(link.url, house.token("user:ada"), device="d1") as ada:
                await ada.open("s1", presence={})
                await eve.until_events(lambda events: about(events) == [("joined", "d1")])
                link.swallow()
                vanished = time.monotonic()
                gone = asyncio.create_task(eve.until_events(lambda events: ("left", "d1") in about(events), 10))
                while busy and not gone.done():
                    await agent.session("s1").append({"type": "app.bulk", "text": "x" * 20_000})
                (left,) = [event for event in await gone if event["type"] == "presence.left"]
                # Silence, two sweeps, the grace of these tests, and what a busy machine takes.
                assert time.monotonic() - vanished < 1.25 + 1.0 + 0.3 + 1.5
                assert left["body"]["reason"] == "closed"
                link.cut()
        finally:
            await link.stop()


async def test_who_comes_back_through_another_gateway_after_one_died_has_never_left(start: Start) -> None:
    async with start() as second, greeted(second.url, second.token("user:eve")) as eve:
        await watching(eve)
        async with start() as first, greeted(first.url, first.token("user:ada"), device="d1") as ada:
            await ada.open("s1", presence={"name": "Ada"})
            await eve.until_events(lambda events: about(events) == [("joined", "d1")])
            (before,) = (await eve.ask("who", session="s1"))["members"]
            await first.gateway.stop()
            async with greeted(second.url, second.token("user:ada"), device="d1") as again:
                await again.open("s1", presence={"name": "Ada"})
                bucket = second.gateway.fabric.broker.bucket(presence.BUCKET)

                async def one() -> bool:
                    entries = await bucket.entries(Place(second.tenant, "s1").key())
                    return [e.key.rpartition(".")[2] for e in entries] == [second.gateway.fabric.broker.holder]

                await eventually(one, 20)
                assert (await eve.ask("who", session="s1"))["members"] == [before]
                assert about(eve.events) == [("joined", "d1")]
