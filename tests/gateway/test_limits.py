"""Somebody at each limit is refused as documented, and everybody else goes on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from session_fabric_gateway.accounts import A_SLICE

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import Client, connect, greeted, user_message
from tests.support.waiting import eventually

# So slow that no test sees a second one granted.
ONCE = "0.001/1"


def limited(house: Running, name: str) -> float:
    """Return how often a limit was reached."""
    return house.gateway.metrics.limited.labels(name)._value.get()  # type: ignore[no-any-return]


@asynccontextmanager
async def over_http(
    house: Running, participant: str = "user:ada", **token: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {house.token(participant, **token)}"}
    async with aiohttp.ClientSession(house.url, headers=headers) as session:
        yield session


async def append(client: Client, id: str, session: str = "s1") -> dict[str, Any]:
    return await client.append(session, user_message("x"), id=id)


async def goes_on(client: Client, session: str) -> None:
    """Somebody else opens, writes and reads as always."""
    await client.open(session)
    assert (await client.append(session, user_message("hello")))["op"] == "appended"
    await client.until_events(lambda events: any(event["type"] == "message.user" for event in events))


# --- sockets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["connection", "participant", "tenant"])
async def test_who_appends_too_much_is_refused_and_others_go_on(start: Start, scope: str) -> None:
    async with (
        start(limit=[f"{scope}.appends=0.01/3"]) as house,
        greeted(house.url, house.token("user:eve", sessions={"*": ["*"]})) as eve,
        greeted(house.url, house.token("user:bob", tenant=f"{house.tenant}-b")) as bob,
    ):
        answers = [await append(eve, f"e{number}") for number in range(5)]
        assert [answer["op"] for answer in answers] == ["appended"] * 3 + ["error"] * 2
        error = answers[3]
        assert (error["code"], error["retryable"]) == ("rate_limited", True)
        assert (error["scope"], error["of"], error["per_s"]) == (scope, "appends", 0.01)
        assert 0 < error["retry_after_ms"] <= 100_000
        # What is not stored goes on, and so does everybody else.
        assert (await eve.ask("ping"))["op"] == "pong"
        await goes_on(bob, "s2")
        assert limited(house, f"{scope}.appends") == 2


async def test_what_was_refused_is_granted_after_a_while_and_stored_once(start: Start) -> None:
    # One after the other without waiting: a slow answer to the first leaves time enough for another to be granted.
    async with start(limit=["connection.appends=1/1"]) as house, greeted(house.url, house.token()) as client:
        for number, id in ((101, "e1"), (102, "e2")):
            await client.send(op="append", id=number, session="s1", event={"body": user_message("x"), "id": id})
        answers = [await client.until(lambda frame: frame.get("id") in (101, 102)) for _ in range(2)]
        told = {answer["id"]: answer for answer in answers}
        assert told[101]["op"] == "appended"
        assert told[102]["code"] == "rate_limited"

        async def granted() -> bool:
            return (await append(client, "e2"))["op"] == "appended"

        await eventually(granted)
        await client.open("s1")
        events = await client.until_events(lambda events: any(event.get("id") == "e2" for event in events))
        assert [event["id"] for event in events if event["type"] == "message.user"] == ["e1", "e2"]


async def test_all_devices_of_a_participant_share_what_it_may(start: Start) -> None:
    async with (
        start(limit=[f"participant.appends={ONCE}"]) as house,
        greeted(house.url, house.token()) as phone,
        greeted(house.url, house.token()) as laptop,
        greeted(house.url, house.token("user:bob")) as bob,
        over_http(house) as http,
    ):
        assert (await append(phone, "e1"))["op"] == "appended"
        assert (await append(laptop, "e2"))["scope"] == "participant"
        async with http.post("/v1/sessions/s1/events", json={"body": user_message("x")}) as response:
            assert response.status == 429
        assert (await append(bob, "e3", "s2"))["op"] == "appended"


@pytest.mark.parametrize(
    ("of", "frame"),
    [
        ("operations", {"op": "ping"}),
        ("operations", {"op": "who", "session": "s1"}),
        ("opens", {"op": "open", "session": "s1"}),
        ("appends", {"op": "state.put", "session": "s1", "document": "plan", "body": {}}),
        ("appends", {"op": "control", "session": "s1", "run": "r1", "action": "cancel"}),
    ],
)
async def test_each_operation_counts_as_what_it_is(start: Start, of: str, frame: dict[str, Any]) -> None:
    async with start(limit=[f"connection.{of}={ONCE}"]) as house, greeted(house.url, house.token()) as client:
        fields = {key: value for key, value in frame.items() if key != "op"}
        first = await client.ask(frame["op"], **fields)
        assert first.get("code") != "rate_limited"
        second = await client.ask(frame["op"], **fields)
        assert (second["code"], second["of"]) == ("rate_limited", of)


async def test_who_goes_on_although_it_is_refused_is_closed_and_others_are_not(start: Start) -> None:
    limits = ["connection.operations=0.01/5", "connection.refusals=0.01/5"]
    async with (
        start(limit=limits) as house,
        greeted(house.url, house.token("user:eve")) as eve,
        greeted(house.url, house.token("user:bob")) as bob,
    ):
        for number in range(20):
            await eve.send(op="ping", id=number)
        assert await eve.closed() == 4411
        codes = [frame.get("code", frame["op"]) for frame in eve.frames]
        assert codes == ["pong"] * 5 + ["rate_limited"] * 6
        assert (await bob.ask("ping"))["op"] == "pong"
        assert limited(house, "connection.refusals") == 1


async def test_frames_that_are_none_count_too(start: Start) -> None:
    async with start(limit=["connection.operations=0.01/5"]) as house, greeted(house.url, house.token()) as client:
        for _ in range(6):
            await client.send(op="fly")
        assert (await client.ask("ping"))["code"] == "rate_limited"


async def test_who_comes_back_with_a_debt_of_bytes_pays_it_before_anything_more_is_taken_in(start: Start) -> None:
    async with start(limit=["participant.bytes=1K/100K", "connection.bytes=none"]) as house:
        async with greeted(house.url, house.token()) as first:
            await first.send(op="ping", id=1, pad="x" * 1_000_000)  # a thousand seconds' worth
            await eventually(lambda: limited(house, "participant.bytes") >= 1)
        before = limited(house, "participant.bytes")
        async with greeted(house.url, house.token()):
            assert limited(house, "participant.bytes") == before + 1
            # What it sends stays in the socket.
            peers: Any = house.gateway._peers
            await eventually(lambda: any(peer._link.request.protocol._reading_paused for peer in peers))


async def test_who_sends_too_many_bytes_is_read_more_slowly_and_loses_nothing(start: Start) -> None:
    async with (
        start(limit=["connection.bytes=200K/100K"]) as house,
        greeted(house.url, house.token("user:eve")) as eve,
        greeted(house.url, house.token("user:bob")) as bob,
    ):
        body = {"type": "app.bulk", "text": "x" * 100_000}
        for number in range(4):
            await eve.send(op="append", id=1000 + number, session="s1", event={"body": body})
        await goes_on(bob, "s2")
        for _ in range(4):
            assert (await eve.op("appended"))["id"] >= 1000
        assert limited(house, "connection.bytes") >= 1


async def test_pings_without_end_are_read_more_slowly(start: Start) -> None:
    async with start(limit=["connection.operations=50/5"]) as house, greeted(house.url, house.token()) as client:
        for _ in range(20):
            await client.socket.ping()
        assert (await client.ask("ping"))["op"] in ("pong", "error")
        assert limited(house, "connection.operations") >= 1


@pytest.mark.parametrize("of", ["connections", "open_connections"])
async def test_a_socket_too_many_is_refused_and_told_so(start: Start, of: str) -> None:
    value = "0.001/2" if of == "connections" else "2"
    async with (
        start(limit=[f"participant.{of}={value}"]) as house,
        greeted(house.url, house.token("user:eve")),
        greeted(house.url, house.token("user:eve")) as second,
    ):
        async with connect(house.url) as third:
            await third.send(op="hello", token=house.token("user:eve"))
            error = await third.op("error")
            assert (error["code"], error["of"]) == ("rate_limited" if of == "connections" else "limit_exceeded", of)
            assert error["retry_after_ms"] > 0
            assert await third.closed() == 4411
        async with greeted(house.url, house.token("user:bob")) as bob:
            await goes_on(bob, "s2")
        assert (await second.ask("ping"))["op"] == "pong"
        if of == "open_connections":
            await second.socket.close()

            async def room() -> bool:
                async with connect(house.url) as again:
                    await again.send(op="hello", token=house.token("user:eve"))
                    return bool((await again.next())["op"] == "welcome")

            await eventually(room)


async def test_sessions_open_on_all_sockets_together_are_counted_and_given_back(start: Start) -> None:
    async with (
        start(limit=["participant.subscriptions=2"]) as house,
        greeted(house.url, house.token()) as one,
        greeted(house.url, house.token()) as two,
        greeted(house.url, house.token("user:bob")) as bob,
    ):
        sub = (await one.open("s1"))["sub"]
        await two.open("s2")
        error = await two.ask("open", session="s3")
        assert (error["code"], error["limit"], error["of"]) == ("limit_exceeded", 2, "subscriptions")
        await goes_on(bob, "s4")
        assert (await one.ask("close", sub=sub))["op"] == "closed"
        await two.open("s3")
        await two.socket.close()

        async def room() -> bool:
            return bool((await one.ask("open", session="s5"))["op"] == "opened")

        await eventually(room)


async def test_opens_that_fail_take_no_room(start: Start) -> None:
    async with (
        start(limit=["participant.subscriptions=1"]) as house,
        greeted(house.url, house.token()) as client,
    ):
        for _ in range(5):
            assert (await client.ask("open", session="s1", after="0000000000000001_0000000000000001"))["op"] == "error"
        await client.open("s1")


async def test_a_client_is_told_what_it_may(start: Start) -> None:
    async with start(limit=["participant.appends=7/9"]) as house, connect(house.url) as client:
        limits = (await client.hello(house.token()))["limits"]
        assert limits["rates"]["appends"] == {"per_s": 7, "burst": 9}
        assert limits["max_subs"] == 1000


async def test_nothing_is_limited_that_an_operator_says_is_not(start: Start) -> None:
    ofs = ("operations", "appends", "opens")
    unlimited = [f"{scope}.{of}=none" for scope in ("connection", "participant", "tenant") for of in ofs]
    async with start(limit=unlimited) as house, greeted(house.url, house.token()) as client:
        for number in range(5000):
            await client.send(op="ping", id=number)
        for _ in range(5000):
            assert (await client.next())["op"] == "pong"
        async with connect(house.url) as other:
            assert set((await other.hello(house.token()))["limits"]["rates"]) == {"bytes", "history"}


async def test_a_tenant_may_have_limits_of_its_own(start: Start, tmp_path: Path, tenant: str) -> None:
    file = tmp_path / "limits.json"
    file.write_text(json.dumps({"tenants": {tenant: {"connection": {"appends": ONCE}}}}))
    async with (
        start(limits_file=file) as house,
        greeted(house.url, house.token()) as held,
        greeted(house.url, house.token(tenant=f"{tenant}-b")) as free,
    ):
        assert [(await append(held, f"e{n}"))["op"] for n in range(2)] == ["appended", "error"]
        assert [(await append(free, f"e{n}"))["op"] for n in range(2)] == ["appended", "appended"]


# --- HTTP ---------------------------------------------------------------------------------------------


async def test_who_asks_too_much_over_http_is_told_when_to_come_back(start: Start) -> None:
    async with (
        start(limit=["participant.requests=0.1/3"]) as house,
        over_http(house, "user:eve") as eve,
        over_http(house, "user:bob") as bob,
    ):
        statuses = []
        for _ in range(5):
            async with eve.get("/v1/sessions") as response:
                statuses.append(response.status)
                told = await response.json(content_type=None)
        assert statuses == [200, 200, 200, 429, 429]
        assert (told["code"], told["scope"], told["of"], told["retryable"]) == (
            "rate_limited",
            "participant",
            "requests",
            True,
        )
        assert response.headers["Content-Type"] == "application/problem+json"
        assert (int(response.headers["Retry-After"]) - 1) * 1000 < told["retry_after_ms"] <= 10_000
        async with bob.get("/v1/sessions") as response:
            assert response.status == 200


async def test_writes_over_http_are_held_to_their_own_rate_and_reads_are_not(start: Start) -> None:
    async with start(limit=[f"participant.appends={ONCE}"]) as house, over_http(house) as http:
        for status in (201, 429):
            async with http.put("/v1/sessions/s1/state/plan", json={"body": {}}) as response:
                assert response.status in (status, 200 if status == 201 else 429)
        async with http.get("/v1/sessions/s1/state/plan") as response:
            assert response.status == 200


async def test_a_body_that_is_too_much_for_now_is_refused_before_it_is_sent(start: Start) -> None:
    async with start(limit=["participant.bytes=1K/100K"]) as house:
        host, port = house.url.removeprefix("http://").split(":")
        head = (
            f"POST /v1/sessions/s1/events HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {house.token()}\r\n"
        )
        small = json.dumps({"body": {"type": "app.n", "text": "x" * 90_000}})
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(10):
            writer.write(f"{head}Content-Length: {len(small)}\r\n\r\n{small}".encode())
            assert b" 201 " in await reader.readline()
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{head}Content-Length: 5000000\r\n\r\n".encode())
            assert b" 429 " in await reader.readline()
        writer.close()


async def test_a_body_of_unknown_length_is_paid_for_afterwards(start: Start) -> None:
    async with start(limit=["participant.bytes=1K/100K"]) as house, over_http(house) as http:

        async def body() -> AsyncIterator[bytes]:
            yield b'{"body":{"type":"app.n","text":"'
            for _ in range(20):
                yield b"x" * 10_000
            yield b'"}}'

        async with http.post("/v1/sessions/s1/events", data=body()) as response:
            assert response.status == 201, await response.text()
        async with http.post("/v1/sessions/s1/events", json={"body": {"type": "app.n"}}) as response:
            assert (response.status, (await response.json(content_type=None))["of"]) == (429, "bytes")


async def test_streams_and_polls_count_as_long_as_they_are_under_way(start: Start) -> None:
    async with (
        start(limit=["participant.open_connections=2"]) as house,
        over_http(house, "user:eve", sessions={"*": ["*"]}) as eve,
        over_http(house, "user:bob") as bob,
    ):
        async with eve.post("/v1/sessions", json={"session": "s1"}) as response:
            assert response.status == 201
        one = await eve.get("/v1/sessions/s1/events?live=sse")
        two = await eve.get("/v1/sessions/s1/events?live=sse")
        assert one.status == two.status == 200
        async with eve.get("/v1/sessions") as response:
            told = await response.json(content_type=None)
            assert (response.status, told["code"], told["of"]) == (429, "limit_exceeded", "open_connections")
            assert response.headers["Retry-After"]
        async with bob.get("/v1/sessions") as response:
            assert response.status == 200
        one.close()

        async def room() -> bool:
            async with eve.get("/v1/sessions") as response:
                return response.status == 200

        await eventually(room)
        two.close()


# --- strangers ----------------------------------------------------------------------------------------


async def test_an_address_that_tries_tokens_is_held_and_others_are_not(start: Start) -> None:
    limits = ["address.requests=0.01/3"]
    async with start(limit=limits, trusted_proxy=["127.0.0.1/32"]) as house:

        async def ask(address: str, token: str, path: str = "/v1/sessions") -> tuple[int, dict[str, Any]]:
            headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": f"192.0.2.99, {address}"}
            async with aiohttp.ClientSession(house.url) as http, http.get(path, headers=headers) as response:
                return response.status, await response.json(content_type=None)

        assert [(await ask("198.51.100.1", "guess"))[0] for _ in range(4)] == [401, 401, 401, 429]
        _, told = await ask("198.51.100.1", "guess")
        assert (told["scope"], told["of"]) == ("address", "requests")
        assert (await ask("198.51.100.2", house.token()))[0] == 200
        assert (await ask("198.51.100.1", "", "/healthz"))[0] == 200
        # Whoever has a good token may ask as often as it likes: it is no stranger.
        assert {(await ask("198.51.100.3", house.token()))[0] for _ in range(10)} == {200}


async def test_what_is_refused_so_ends_its_connection(start: Start) -> None:
    async with start(limit=[f"address.requests={ONCE}"]) as house, aiohttp.ClientSession(house.url) as http:
        async with http.get("/v1/sessions") as response:
            assert response.status == 401
        async with http.get("/v1/sessions") as response:
            assert (response.status, response.headers["Connection"]) == (429, "close")


async def test_sockets_that_show_no_good_token_count_for_their_address(start: Start) -> None:
    limits = ["address.requests=0.01/3"]
    async with start(limit=limits, trusted_proxy=["127.0.0.0/8"]) as house:
        there, here = {"X-Forwarded-For": "198.51.100.1"}, {"X-Forwarded-For": "198.51.100.2"}
        for _ in range(3):
            async with connect(house.url, headers=there) as client:
                await client.send(op="hello", token="guess")
                assert await client.closed() == 4501
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with connect(house.url, headers=there):
                pass
        assert refused.value.status == 429
        for _ in range(10):
            async with connect(house.url, headers=here) as client:
                await client.hello(house.token())


async def test_an_address_with_too_many_new_connections_is_cut_and_others_are_not(start: Start) -> None:
    async with start(limit=["address.connections=0.01/3"]) as house:
        host, port = house.url.removeprefix("http://").split(":")

        async def answered(source: str) -> bool:
            reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            except ConnectionError:
                return False
            finally:
                writer.close()

        assert [await answered("127.0.0.2") for _ in range(5)] == [True, True, True, False, False]
        assert await answered("127.0.0.3")
        assert house.gateway.metrics.cuts.labels("address_connections")._value.get() == 2


# --- what is read of the log --------------------------------------------------------------------------


async def long_session(house: Running, name: str = "long", events: int = 600) -> None:
    """Make a session that nobody follows here."""
    async with greeted(house.url, house.token("service:maker", sessions={"*": ["*"]})) as maker:
        for number in range(events):
            await maker.send(
                op="append", id=number, session=name, event={"id": f"e{number}", "body": {"type": "app.n", "n": number}}
            )
        for _ in range(events):
            assert (await maker.next())["op"] == "appended"


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["body"]["n"] for event in events if event["type"] == "app.n"]


async def test_who_has_read_too_much_of_the_log_is_refused_and_others_go_on(start: Start) -> None:
    async with start(limit=["participant.history=0.001/50"]) as house:
        await long_session(house)
        async with (
            greeted(house.url, house.token()) as ada,
            greeted(house.url, house.token()) as phone,
            greeted(house.url, house.token("service:reader", sessions={"*": ["*"]})) as reader,
            over_http(house) as http,
        ):
            assert (await ada.open("long"))["op"] == "opened"
            refused = await phone.ask("open", session="long")
            assert (refused["code"], refused["of"], refused["scope"]) == ("rate_limited", "history", "participant")
            assert refused["retryable"]
            for path in ("events", "events?before=tail", "events?live=sse", "messages", "runs", "requests", "stream"):
                async with http.get(f"/v1/sessions/long/{path}") as response:
                    assert (response.status, (await response.json())["of"]) == (429, "history"), path
                    assert int(response.headers["Retry-After"]) > 0
            # What happens from now on is not history, and costs nothing.
            assert (await phone.ask("open", session="long", after="tail"))["op"] == "opened"
            assert (await append(ada, "new", "long"))["op"] == "appended"
            await phone.until_events(lambda events: any(event.get("id") == "new" for event in events))
            await reader.open("long")
            await reader.until_events(lambda events: len(numbers(events)) == 600)
        assert limited(house, "participant.history") > 0


async def test_history_comes_whole_and_in_order_to_who_is_slowed_down(start: Start) -> None:
    async with start(limit=["connection.history=1500/50"]) as house:
        await long_session(house)
        async with greeted(house.url, house.token()) as ada:
            await ada.open("long")
            await ada.op("live")
            assert numbers(ada.events) == list(range(600))
        assert limited(house, "connection.history") > 0


@pytest.mark.parametrize("path", ["events?limit=600", "events?before=tail&limit=600", "messages", "export", "stream"])
async def test_what_a_request_reads_is_counted_as_it_is_read(start: Start, path: str) -> None:
    async with start(limit=["program.history=0.001/50"]) as house:
        async with greeted(house.url, house.token(sessions={"*": ["*"]})) as ada:
            for number in range(100):
                await ada.append("long", {"type": "app.n", "n": number})
        async with over_http(house, "service:reader", sessions={"*": ["*"]}) as http:
            async with http.get(f"/v1/sessions/long/{path}") as response:
                assert response.status == 200
                await response.read()
            async with http.get("/v1/sessions/long/events") as response:
                assert (response.status, (await response.json())["of"]) == (429, "history")


async def test_what_is_no_request_costs_more_than_its_bytes(start: Start) -> None:
    async with start(limit=["connection.bytes=1000/5000", "participant.bytes=1000/5000"]) as house:
        async with greeted(house.url, house.token()) as ada:
            assert (await ada.append("s1", user_message("x" * 1500)))["op"] == "appended"
            assert limited(house, "connection.bytes") == 0
            await ada.socket.send_str("x" * 1500)
            assert (await ada.op("error"))["code"] == "invalid_request"
            assert limited(house, "connection.bytes") == 1
        async with over_http(house, "user:bob") as http:
            await http.post("/v1/sessions/s1/events", data="x" * 1500)
            assert limited(house, "participant.bytes") == 1


async def test_those_who_have_left_are_forgotten_a_few_in_each_turn(house: Running) -> None:
    # A machine that has just started counts from nothing: there may be no thousand seconds behind it.
    ours, now = house.gateway.accounts, time.monotonic() + 1000
    for number in range(1000):
        ours.spend_of_address(f"gone {number}", now - 1000, "requests")
    looking = asyncio.create_task(house.gateway._check_accounts(now))
    drops = []
    while not looking.done():
        before = len(ours)
        await asyncio.sleep(0)
        drops.append(before - len(ours))
    assert sum(drops) >= 1000
    assert max(drops) <= A_SLICE
