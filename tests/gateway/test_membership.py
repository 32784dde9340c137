"""Taking part, and closing a session, through the gateway."""

from __future__ import annotations

import aiohttp

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted


async def test_participants_come_and_go_and_a_session_is_closed_on_a_socket(house: Running) -> None:
    async with (
        greeted(house.url, house.token("user:ada")) as ada,
        greeted(house.url, house.token("operator:eve")) as eve,
    ):
        opened = await ada.open("s1")
        assert opened["session"]["participants"] == ["user:ada"]
        added = await ada.ask("participant.add", session="s1", participant="user:bob")
        assert (added["op"], added["session"]["participants"]) == ("session", ["user:ada", "user:bob"])
        assert (await ada.ask("participant.remove", session="s1", participant="user:bob"))["code"] == "forbidden"
        assert (await ada.ask("participant.add", session="s1", participant="bob"))["code"] == "invalid_name"
        assert (await ada.ask("session.close", session="s1"))["code"] == "forbidden"
        assert (await eve.ask("session.close", session="s1"))["session"]["state"] == "closed"
        await ada.until_events(lambda events: any(e["type"] == "session.closed" for e in events))
        refused = await ada.ask("append", session="s1", event={"id": "e1", "body": {"type": "app.note"}})
        assert refused["code"] == "session_closed"


async def test_participants_come_and_go_and_a_session_is_closed_over_http(house: Running) -> None:
    async with aiohttp.ClientSession() as http:

        async def call(who: str, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
            headers = {"Authorization": f"Bearer {house.token(who)}"}
            async with http.request(method, f"{house.url}/v1/sessions{path}", json=body, headers=headers) as answer:
                return answer.status, await answer.json()

        made = {"session": "s1", "participants": ["user:ada"]}
        status, record = await call("service:shop", "POST", "", made)
        assert (status, record["participants"]) == (201, ["user:ada"])
        status, answer = await call("user:ada", "PUT", "/s1/participants/user:bob")
        assert (status, answer["session"]["participants"]) == (200, ["user:ada", "user:bob"])  # type: ignore[index]
        status, answer = await call("service:shop", "DELETE", "/s1/participants/user:ada")
        assert (status, answer["session"]["participants"]) == (200, ["user:bob"])  # type: ignore[index]
        assert (await call("user:bob", "POST", "/s1/close"))[0] == 403
        assert (await call("service:shop", "POST", "/nowhere/close"))[0] == 404
        assert (await call("service:shop", "POST", "/s1/close"))[0] == 200
        status, problem = await call("user:bob", "POST", "/s1/events", {"id": "e1", "body": {"type": "app.note"}})
        assert (status, problem["code"]) == (409, "session_closed")
