"""The floor and presence through the gateway: on the socket and over HTTP."""

from __future__ import annotations

import aiohttp

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted


async def test_the_floor_is_taken_spoken_from_and_given_back_on_a_socket(house: Running) -> None:
    async with (
        greeted(house.url, house.token("user:ada")) as ada,
        greeted(house.url, house.token("operator:eve")) as eve,
    ):
        await ada.open("s1")
        assert (await eve.ask("floor", session="s1"))["floor"]["participant"] is None
        assert (await ada.ask("floor.take", session="s1"))["code"] == "forbidden"
        refused = await eve.ask("say", session="s1", message={"id": "m1", "role": "assistant", "content": "Hi"})
        assert refused["code"] == "not_holder"
        taken = (await eve.ask("floor.take", session="s1", note="mine"))["floor"]
        assert (taken["participant"], taken["generation"]) == ("operator:eve", 1)
        said = await eve.ask("say", session="s1", message={"id": "m1", "role": "assistant", "content": "Hi"})
        assert said["op"] == "appended"
        assert (await eve.ask("floor.return", session="s1"))["floor"]["participant"] is None
        events = await ada.until_events(lambda events: any(e["type"] == "handoff.returned" for e in events))
        spoken = next(e for e in events if e["type"] == "message.completed")
        assert (spoken["actor"], spoken["body"]["message"]["content"]) == ("operator:eve", "Hi")


async def test_an_offer_is_taken_up_over_http_and_the_next_is_told_who_was_first(house: Running) -> None:
    async with aiohttp.ClientSession() as http:

        async def call(who: str, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
            headers = {"Authorization": f"Bearer {house.token(who)}"}
            async with http.request(method, f"{house.url}/v1/sessions{path}", json=body, headers=headers) as answer:
                return answer.status, await answer.json()

        await call("user:ada", "POST", "", {"session": "s1"})
        status, offer = await call("supervisor:sue", "POST", "/s1/handoffs", {"to": "role:operator", "note": "help"})
        assert status == 201
        status, floor = await call("operator:eve", "POST", f"/s1/handoffs/{offer['request']}/accept")
        assert (status, floor["floor"]["participant"]) == (200, "operator:eve")  # type: ignore[index]
        status, problem = await call("operator:bob", "POST", f"/s1/handoffs/{offer['request']}/accept")
        assert (status, problem["code"], problem["by"]) == (409, "already_answered", "operator:eve")
        status, problem = await call("operator:bob", "POST", "/s1/handoffs", {"to": "nobody"})
        assert (status, problem["code"]) == (400, "invalid_request")
        status, floor = await call("operator:bob", "GET", "/s1/floor?pool=default")
        assert floor["floor"]["participant"] == "operator:eve"  # type: ignore[index]


async def test_a_device_changes_what_it_shows_and_goes_when_it_says_so(house: Running) -> None:
    async with greeted(house.url, house.token("user:ada"), device="d1") as ada:
        assert (await ada.ask("presence", session="s1", status="idle"))["code"] == "not_open"
        await ada.open("s1")
        assert (await ada.ask("presence", session="s1", data={"name": "Ada"}, status="idle"))["op"] == "ok"
        await ada.ask("presence", session="s1", status="waiting")
        (member,) = (await ada.ask("who", session="s1"))["members"]
        assert (member["device"], member["data"], member["status"]) == ("d1", {"name": "Ada"}, "waiting")
        assert (await ada.ask("presence", session="s1", status="asleep"))["code"] == "invalid_request"
        await ada.ask("presence", session="s1", leave=True)
        await ada.until_events(lambda events: any(e["type"] == "presence.left" for e in events))
        assert (await ada.ask("who", session="s1"))["members"] == []
        assert (await ada.ask("who", session="nowhere"))["code"] == "session_not_found"
