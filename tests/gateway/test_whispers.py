"""Whispers through the gateway: to agents, operators and supervisors, and past users on every path."""

from __future__ import annotations

import aiohttp

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted


async def test_a_whisper_passes_users_by_on_the_socket_and_reaches_the_others(house: Running) -> None:
    async with (
        greeted(house.url, house.token("user:ada")) as ada,
        greeted(house.url, house.token("operator:eve")) as eve,
        greeted(house.url, house.token("supervisor:sue")) as sue,
    ):
        subs = {(await who.open("s1"))["sub"] for who in (ada, eve, sue)}
        assert len(subs) == 2  # operators and supervisors share their frames, users have their own
        said = await sue.ask("whisper", session="s1", text="A gold member.", event="w1")
        assert (said["op"], said["duplicate"]) == ("appended", False)
        assert (await sue.ask("whisper", session="s1", text="A gold member.", event="w1"))["duplicate"]
        assert (await ada.ask("whisper", session="s1", text="psst"))["code"] == "forbidden"
        assert (await eve.ask("whisper", session="s1", text="", run="r1"))["code"] == "invalid_request"
        await ada.ask("append", session="s1", event={"id": "e1", "body": {"type": "app.end"}})
        for who, expected in ((ada, 0), (eve, 1), (sue, 1)):
            events = await who.until_events(lambda events: any(e["type"] == "app.end" for e in events))
            assert sum(e["type"] == "whisper" for e in events) == expected
    # Late joiners, from the log.
    for name, expected in (("user:ada", 0), ("operator:eve", 1)):
        async with greeted(house.url, house.token(name)) as late:
            await late.open("s1", after="start")
            events = await late.until_events(lambda events: any(e["type"] == "app.end" for e in events))
            assert sum(e["type"] == "whisper" for e in events) == expected


async def test_a_whisper_passes_users_by_over_http(house: Running) -> None:
    async with aiohttp.ClientSession() as http:

        async def call(who: str, method: str, path: str, body: object = None) -> str:
            headers = {"Authorization": f"Bearer {house.token(who)}"}
            async with http.request(method, f"{house.url}/v1/sessions{path}", json=body, headers=headers) as answer:
                return f"{answer.status} {await answer.text()}"

        async def streamed(who: str) -> str:
            headers = {"Authorization": f"Bearer {house.token(who)}"}
            text = ""
            async with http.get(f"{house.url}/v1/sessions/s1/events?live=sse", headers=headers) as answer:
                async for chunk in answer.content.iter_any():
                    text += chunk.decode()
                    if "app.end" in text:
                        return text
            return text

        await call("user:ada", "POST", "", {"session": "s1"})
        assert (await call("supervisor:sue", "POST", "/s1/whispers", {"text": "Do not tell."})).startswith("201")
        assert (await call("user:ada", "POST", "/s1/whispers", {"text": "psst"})).startswith("403")
        assert (await call("supervisor:sue", "POST", "/nowhere/whispers", {"text": "psst"})).startswith("404")
        await call("user:ada", "POST", "/s1/events", {"id": "e1", "body": {"type": "app.end"}})
        ways = ["/s1/events", "/s1/events?before=tail", "/s1/events?live=long-poll&timeout_ms=0"]
        for who, there in (("user:ada", False), ("operator:eve", True)):
            for way in ways:
                answer = await call(who, "GET", way)
                assert ("app.end" in answer, "Do not tell." in answer) == (True, there), way
            assert ("Do not tell." in await streamed(who)) is there
            assert "Do not tell." not in await call(who, "GET", "/s1/events?view=messages")


async def test_a_long_poll_of_a_user_does_not_wake_for_a_whisper(house: Running) -> None:
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {house.token('user:ada')}"}
        url = f"{house.url}/v1/sessions"
        async with http.post(url, json={"session": "s1"}, headers=headers) as answer:
            head = (await answer.json())["head"]
        sue = {"Authorization": f"Bearer {house.token('supervisor:sue')}"}
        async with http.post(f"{url}/s1/whispers", json={"text": "psst"}, headers=sue) as answer:
            whispered = (await answer.json())["offset"]
        query = {"live": "long-poll", "after": head, "timeout_ms": "300"}
        async with http.get(f"{url}/s1/events", params=query, headers=headers) as answer:
            found = await answer.json()
        assert found["events"] == []
        assert found["next"] >= whispered  # it is read past, not waited at
