"""The socket: hello, operations, and every way in which it is refused or closed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import orjson
import pytest
from session_fabric import Fabric
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place
from session_fabric.writer import MAX_BODY_BYTES
from session_fabric_gateway.settings import Limits

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import Client, close_code, connect, greeted, user_message
from tests.support.waiting import eventually


async def test_hello_is_answered_with_who_we_are_and_what_we_may_use(house: Running) -> None:
    async with connect(house.url) as client:
        welcome = await client.hello(house.token("user:ada"), device="d1", client="tests/1")
    assert welcome["participant"] == "user:ada"
    assert welcome["tenant"] == house.tenant
    assert welcome["limits"]["max_subs"] == 1000


async def test_the_header_may_carry_the_token(house: Running) -> None:
    async with connect(house.url, headers={"Authorization": f"Bearer {house.token()}"}) as client:
        assert (await client.hello())["participant"] == "user:ada"


@pytest.mark.parametrize("token", [None, "nonsense", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyOmFkYSJ9."])
async def test_who_has_no_valid_token_is_told_so_and_closed_for_good(house: Running, token: str | None) -> None:
    async with connect(house.url) as client:
        await client.send(op="hello", **({} if token is None else {"token": token}))
        assert (await client.op("error"))["code"] == "unauthenticated"
        assert await client.closed() == 4501


async def test_an_expired_token_is_told_apart(house: Running) -> None:
    async with connect(house.url) as client:
        await client.send(op="hello", token=house.token(expires_in_s=-5))
        assert (await client.op("error"))["code"] == "token_expired"
        assert await client.closed() == 4410


async def test_a_first_frame_that_is_not_hello_closes(house: Running) -> None:
    async with connect(house.url) as client:
        await client.send(op="ping", id=1)
        assert await client.closed() == 4500


async def test_a_connection_without_hello_is_closed(start: Start) -> None:
    async with start(hello_s=0.2) as house, connect(house.url) as client:
        assert await client.closed() == 4500


async def test_a_second_hello_is_refused(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        await client.send(op="hello", token=house.token())
        assert (await client.op("error"))["code"] == "invalid_request"


async def test_a_client_without_the_subprotocol_is_closed_for_good(house: Running) -> None:
    async with connect(house.url, protocols=()) as client:
        assert await client.closed() == 4504


async def test_a_plain_request_for_the_socket_is_a_problem(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/ws") as response:
        assert response.status == 400
        assert (await response.json())["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ({"op": "fly", "id": 1}, "fly"),
        ({"id": 1}, "op"),
        ({"op": "open", "id": 1, "session": "s", "colour": "red"}, "colour"),
        ({"op": "open", "id": 1}, "session"),
        ({"op": "open", "id": "one", "session": "s"}, "id"),
        ({"op": "open", "id": 1, "session": 7}, "session"),
        ({"op": "open", "id": 1, "session": "s", "view": "half"}, "view"),
        ({"op": "append", "id": 1, "session": "s", "event": {"id": "e", "body": {}, "actor": "user:eve"}}, "actor"),
        ({"op": "append", "id": 1, "session": "s", "event": []}, "event"),
        ({"op": "control", "id": 1, "session": "s", "run": "r", "action": "explode"}, "action"),
        ({"op": "signal", "session": "s", "body": "text"}, "body"),
        ({"op": "close", "id": 1, "sub": "x"}, "sub"),
        ([1, 2], "array"),
        ("hello", "string"),
        (None, "null"),
    ],
)
async def test_a_frame_that_is_wrong_is_refused_by_name_and_the_connection_stays(
    house: Running, frame: Any, named: str
) -> None:
    async with greeted(house.url, house.token()) as client:
        await client.socket.send_str(json.dumps(frame))
        error = await client.op("error")
        assert error["code"] == "invalid_request"
        assert named in error["message"]
        if isinstance(frame, dict) and frame.get("id") == 1:
            assert error["id"] == 1
        assert (await client.ask("ping"))["op"] == "pong"


@pytest.mark.parametrize("name", ["", "a.b", "a*", ">", "a b", "a\nb", "ä", "-a", "x" * 129, "a/b"])
async def test_a_session_name_of_the_wrong_form_is_refused(house: Running, name: str) -> None:
    async with greeted(house.url, house.token()) as client:
        for request in (
            await client.ask("open", session=name),
            await client.ask("append", session=name, event={"id": "e1", "body": user_message("x")}),
            await client.ask("who", session=name),
        ):
            assert request["code"] == "invalid_name"


@pytest.mark.parametrize("tenant", ["a.b", "*", "a b", "ä", ""])
async def test_a_token_of_a_tenant_that_cannot_be_is_refused(house: Running, tenant: str) -> None:
    async with connect(house.url) as client:
        await client.send(op="hello", token=house.token(tenant=tenant) if tenant else house.token("nobody"))
        assert await client.closed() == 4501


@pytest.mark.parametrize("after", ["nowhere", "1_2", "tail "])
async def test_what_is_no_offset_is_refused(house: Running, after: str) -> None:
    async with greeted(house.url, house.token()) as client:
        assert (await client.ask("open", session="s1", after=after))["code"] == "invalid_offset"


async def test_an_offset_of_another_session_is_refused(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        other = await client.append("other", user_message("x"), id="e1")
        await client.open("s1")
        await client.ask("close", sub=(await client.ask("open", session="s1"))["sub"])
        assert (await client.ask("open", session="s1", after=other["offset"]))["code"] == "offset_foreign"
        # Nothing is left half open.
        assert (await client.ask("open", session="s1"))["op"] == "opened"


async def test_an_offset_of_an_earlier_life_is_refused(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as client:
        old = await client.append("s1", user_message("x"), id="e1")
        await agent.session("s1").delete()
        await client.append("s1", user_message("y"), id="e1")
        error = await client.ask("open", session="s1", after=old["offset"])
        assert error["code"] in ("offset_foreign", "offset_gone")


async def test_an_offset_beyond_the_end_is_refused(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        segment, sequence = (await client.append("s1", user_message("x"), id="e1"))["offset"].split("_")
        beyond = f"{segment}_{int(sequence) + 1000:016d}"
        assert (await client.ask("open", session="s1", after=beyond))["code"] == "offset_foreign"


async def test_an_id_sent_again_is_a_duplicate_and_with_another_body_a_conflict(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        first = await client.append("s1", user_message("x"), id="e1")
        again = await client.append("s1", user_message("x"), id="e1")
        other = await client.append("s1", user_message("y"), id="e1")
    assert first["duplicate"] is False
    assert (again["offset"], again["duplicate"]) == (first["offset"], True)
    assert (other["code"], other["offset"]) == ("id_conflict", first["offset"])


@pytest.mark.parametrize("body", [None, 7, "text", [], {}, {"type": 7}, {"type": "not a type"}])
async def test_a_body_that_is_no_event_is_refused(house: Running, body: Any) -> None:
    async with greeted(house.url, house.token()) as client:
        assert (await client.append("s1", body, id="e1"))["code"] == "invalid_event"


async def test_a_body_of_more_than_the_limit_is_refused_and_the_connection_stays(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        error = await client.append("s1", user_message("x" * (8 * 1024 * 1024)), id="e1")
        assert (error["code"], error["limit"]) == ("too_large", 8 * 1024 * 1024)
        assert (await client.ask("ping"))["op"] == "pong"


@pytest.mark.parametrize("more", [0, 1])
async def test_a_body_of_the_most_bytes_comes_back_whole_and_one_byte_more_is_refused(
    house: Running, more: int
) -> None:
    around = len(orjson.dumps(user_message("")))
    text = "x" * (MAX_BODY_BYTES - around + more)
    async with greeted(house.url, house.token()) as client:
        await client.open("s1")
        answer = await client.append("s1", user_message(text), id="e1")
        if more:
            assert (answer["op"], answer["code"], answer["limit"]) == ("error", "too_large", MAX_BODY_BYTES)
            return
        events = await client.until_events(lambda events: len(events) == 2, 60.0)
    assert events[1]["body"] == user_message(text)


@pytest.mark.parametrize("type", ["TEXT_MESSAGE_CONTENT", "RUN_STARTED", "message.completed", "presence.left"])
async def test_a_user_cannot_write_what_runs_or_the_fabric_write(house: Running, type: str) -> None:
    async with greeted(house.url, house.token()) as client:
        assert (await client.append("s1", {"type": type}, id="e1"))["code"] == "forbidden"


async def test_the_actor_is_the_tokens_whatever_the_body_says(house: Running) -> None:
    async with greeted(house.url, house.token("user:ada")) as client:
        await client.open("s1")
        await client.append("s1", {"type": "app.note", "actor": "user:eve"}, id="e1")
        events = await client.until_events(lambda events: len(events) == 2)
    assert events[1]["actor"] == "user:ada"


async def test_a_frame_that_is_too_large_closes_for_good(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        await client.socket.send_str("x" * (9 * 1024 * 1024))
        assert await client.closed() == 4502


async def test_a_frame_of_exactly_the_limit_is_taken(start: Start) -> None:
    ping, most = '{"op":"ping","id":1}', 1000
    async with (
        start(limits=Limits(max_frame_bytes=most)) as house,
        greeted(house.url, house.token()) as client,
    ):
        await client.socket.send_str(ping.ljust(most))
        assert (await client.op("pong"))["id"] == 1
        await client.socket.send_str(ping.ljust(most + 1))
        assert await client.closed() == 4502


async def test_a_binary_frame_closes_for_good(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        await client.socket.send_bytes(b'{"op":"ping"}')
        assert await client.closed() == 4502


@pytest.mark.parametrize("broken", [b'{"op":"\xff"}', b"\xc3", b'{"op":"ping","id":1}\x80'])
async def test_a_frame_of_broken_utf8_closes_for_good(house: Running, broken: bytes) -> None:
    async with greeted(house.url, house.token()) as client:
        await client.socket.send_frame(broken, aiohttp.WSMsgType.TEXT)
        assert await client.closed() == 4502


async def test_a_hundred_refused_frames_in_a_row_close_for_good(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        for _ in range(99):
            await client.send(op="fly")
        await client.ask("ping")
        for _ in range(100):
            await client.send(op="fly")
        assert await client.closed() == 4503
        assert sum(frame["op"] == "error" for frame in client.frames) == 199


async def test_ten_thousand_opens_on_one_socket_are_answered_and_nobody_else_notices(start: Start) -> None:
    unlimited = [
        f"{scope}.{of}=none" for scope in ("connection", "participant") for of in ("operations", "opens", "history")
    ]
    async with (
        start(limit=unlimited, heartbeat_s=60) as house,  # neither says anything of itself meanwhile
        greeted(house.url, house.token()) as client,
        greeted(house.url, house.token()) as other,
    ):
        await other.open("s-other")

        async def flood() -> None:
            for number in range(10_000):
                await client.send(op="open", id=number, session=f"s{number}", after="tail")

        async with asyncio.TaskGroup() as group:
            group.create_task(flood())
            answers: dict[str, int] = {}
            while sum(answers.values()) < 10_000:
                frame = await client.next(60)
                if "id" in frame:
                    kind = frame.get("code", frame["op"])
                    answers[kind] = answers.get(kind, 0) + 1
        assert answers == {"opened": 1000, "limit_exceeded": 9000}
        assert (await other.append("s-other", user_message("x"), id="e1"))["op"] == "appended"


async def test_a_session_is_opened_once_a_connection(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        sub = (await client.open("s1"))["sub"]
        error = await client.ask("open", session="s1")
        assert (error["code"], error["sub"]) == ("already_open", sub)
        assert await client.ask("close", sub=sub) == {"op": "closed", "id": 3, "sub": sub}
        assert (await client.ask("close", sub=sub))["code"] == "not_open"
        assert (await client.open("s1"))["sub"] == sub


async def test_who_opens_a_session_that_is_being_opened_is_told_its_number(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        for id in (1, 2):
            await client.send(op="open", id=id, session="s1")
        assert (await client.op("opened"))["sub"] == (await client.op("error"))["sub"]


async def test_nothing_comes_after_closed(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        sub = (await client.open("s1"))["sub"]
        await client.op("live")
        await client.ask("close", sub=sub)
        await client.append("s1", user_message("x"), id="e1")
        await client.ask("ping")
        assert [event["type"] for event in client.events] == ["session.created"]


async def test_control_of_a_run_that_has_ended_is_refused(house: Running, agent: Fabric) -> None:
    async with agent.session("s1").run("r1") as run:
        await run.text("done")
    async with greeted(house.url, house.token()) as client:
        error = await client.ask("control", session="s1", run="r1", action="cancel")
        assert error["code"] == "run_closed"


async def test_control_of_a_session_that_is_not_there_is_refused(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        assert (await client.ask("control", session="s1", run="r1", action="cancel"))["code"] == "session_not_found"


async def test_a_token_that_ends_closes_and_refresh_extends(house: Running) -> None:
    async with (
        greeted(house.url, house.token(expires_in_s=2)) as one,
        greeted(house.url, house.token(expires_in_s=2)) as two,
    ):
        assert (await two.ask("refresh", token=house.token()))["op"] == "ok"
        assert await one.closed() == 4410
        assert (await two.ask("ping"))["op"] == "pong"


async def test_refresh_is_for_the_same_participant(house: Running) -> None:
    async with greeted(house.url, house.token("user:ada")) as client:
        assert (await client.ask("refresh", token=house.token("user:eve")))["code"] == "forbidden"
        assert (await client.ask("refresh", token="nonsense"))["code"] == "unauthenticated"
        assert (await client.ask("ping"))["op"] == "pong"


async def test_who_says_nothing_at_all_is_closed_and_who_answers_pings_is_not(start: Start) -> None:
    async with (
        start(heartbeat_s=1.0) as house,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{house.url}/v1/ws", protocols=("session-fabric.v1",), autoping=False) as socket,
        greeted(house.url, house.token()) as good,
    ):
        mute = Client(socket)
        await mute.hello(house.token())
        waiting = asyncio.create_task(good.closed())
        pings = 0
        while (message := await socket.receive(timeout=10)).type is aiohttp.WSMsgType.PING:
            pings += 1
        assert (pings, close_code(socket, message)) == (1, 4409), message
        assert not waiting.done()
        waiting.cancel()


async def test_sessions_of_another_tenant_are_not_there(house: Running) -> None:
    other = new_id("t")
    async with greeted(house.url, house.token()) as mine, greeted(house.url, house.token(tenant=other)) as theirs:
        await theirs.append("s1", user_message("secret"), id="e1")
        await theirs.open("s1")
        await mine.open("s1")
        await mine.op("live")
        assert [event["type"] for event in mine.events] == ["session.created"]


async def test_a_deleted_session_is_gone_for_its_viewers(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as client:
        sub = (await client.open("s1"))["sub"]
        await client.op("live")
        await agent.session("s1").delete()
        gone = await client.op("gone")
        assert (gone["sub"], gone["code"]) == (sub, "session_gone")
        assert (await client.open("s1"))["session"]["session"] == "s1"  # the name is free again


async def test_a_stranger_on_the_web_is_not_let_in(house: Running) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connect(house.url, headers={"Origin": "https://evil.example"}):
            pass
    assert refused.value.status == 403


async def test_pages_of_the_same_host_and_listed_ones_are_let_in(start: Start) -> None:
    async with start(allow_origin=["https://app.example"]) as house:
        for origin in (house.url, "https://app.example"):
            async with connect(house.url, headers={"Origin": origin}) as client:
                await client.hello(house.token())


async def test_a_client_that_vanishes_leaves_nothing_behind(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        await client.open("s1", presence={})
        client.vanish()
        await client.closed()
    async with house.gateway.hub.reading(Place(house.tenant, "s1")) as feed:
        await eventually(lambda: feed.readers == 1)
        assert not any(line.boxes for line in feed._lines.values())
