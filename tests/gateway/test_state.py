"""Shared documents through the gateway: on the socket, over HTTP, and pushed to those who watch."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from session_fabric import Fabric, Offset, Signal
from session_fabric.rules.states import MOST_DOCUMENTS
from session_fabric_gateway.settings import Limits

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import Client, Frame, greeted
from tests.support.servers import NatsNode
from tests.support.waiting import eventually


async def pushed(client: Client, document: str = "plan") -> Frame:
    """Return the next pushed value of a document."""

    def is_push(frame: Any) -> bool:
        return isinstance(frame, dict) and frame["op"] == "state" and "id" not in frame

    for at, frame in enumerate(client.frames):
        if is_push(frame) and frame["document"] == document:
            return client.frames.pop(at)  # type: ignore[no-any-return]
    return await client.until(lambda f: is_push(f) and f["document"] == document)  # type: ignore[no-any-return]


# --- reading and writing ------------------------------------------------------------------------------


async def test_a_document_is_put_got_patched_and_deleted_on_the_socket(house: Running) -> None:
    async with greeted(house.url, house.token("user:ada")) as ada:
        plan = {"session": "s1", "document": "plan"}
        put = await ada.ask("state.put", **plan, body={"a": 1, "b": 2})
        assert (put["op"], put["document"], put["body"], put["by"]) == ("state", "plan", {"a": 1, "b": 2}, "user:ada")
        got = await ada.ask("state.get", **plan)
        assert {**got, "id": 0} == {**put, "id": 0}
        patched = await ada.ask("state.patch", **plan, body={"a": None, "c": 3}, revision=put["revision"])
        assert patched["body"] == {"b": 2, "c": 3}
        listed = await ada.ask("state.list", session="s1")
        entry = {key: patched[key] for key in ("document", "revision", "by", "ts")}
        assert (listed["op"], listed["documents"]) == ("documents", [entry])
        deleted = await ada.ask("state.delete", **plan)
        assert (deleted["op"], deleted["body"]) == ("state", None)
        history = await ada.ask("state.history", **plan)
        assert (history["op"], [v["body"] for v in history["versions"]]) == (
            "history",
            [None, {"b": 2, "c": 3}, {"a": 1, "b": 2}],
        )
        nothing = await ada.ask("state.get", **plan)
        assert {key: nothing[key] for key in ("revision", "body", "by", "ts")} == {
            "revision": 0,
            "body": None,
            "by": None,
            "ts": None,
        }


async def test_a_document_is_put_got_patched_and_deleted_over_http(http: aiohttp.ClientSession) -> None:
    url = "/v1/sessions/s1/state"
    async with http.put(f"{url}/plan", json={"body": {"a": 1}, "revision": 0}) as answer:
        assert answer.status == 200
        put = await answer.json()
        assert (put["document"], put["body"], put["by"]) == ("plan", {"a": 1}, "user:ada")
    async with http.get(f"{url}/plan") as answer:
        assert await answer.json() == put
    async with http.patch(f"{url}/plan", json={"body": {"b": 2}}) as answer:
        patched = await answer.json()
        assert patched["body"] == {"a": 1, "b": 2}
    async with http.get(url) as answer:
        assert [d["document"] for d in (await answer.json())["documents"]] == ["plan"]
    async with http.delete(f"{url}/plan", params={"revision": put["revision"]}) as answer:
        assert answer.status == 409
    async with http.delete(f"{url}/plan", params={"revision": patched["revision"]}) as answer:
        assert (answer.status, (await answer.json())["body"]) == (200, None)
    async with http.get(f"{url}/plan/history") as answer:
        assert [v["body"] for v in (await answer.json())["versions"]] == [None, {"a": 1, "b": 2}, {"a": 1}]
    async with http.get(f"{url}/plan") as answer:
        assert (answer.status, (await answer.json())["revision"]) == (200, 0)


async def test_a_stale_revision_is_answered_with_what_is_there(house: Running, http: aiohttp.ClientSession) -> None:
    async with greeted(house.url, house.token("user:eve")) as eve:
        plan = {"session": "s1", "document": "plan"}
        first = await eve.ask("state.put", **plan, body={"n": 1})
        second = await eve.ask("state.put", **plan, body={"n": 2}, revision=first["revision"])
        error = await eve.ask("state.put", **plan, body={"n": 3}, revision=first["revision"])
        there = {key: second[key] for key in ("document", "revision", "body", "by", "ts")}
        assert (error["op"], error["code"], error["revision"]) == ("error", "conflict", second["revision"])
        assert error["current"] == there
        async with http.put("/v1/sessions/s1/state/plan", json={"body": {}, "revision": 0}) as answer:
            problem = await answer.json()
            assert (answer.status, problem["code"], problem["current"]) == (409, "conflict", there)
        missing = await eve.ask("state.put", session="s1", document="other", body={}, revision=5)
        assert (missing["code"], missing["revision"], "current" in missing) == ("conflict", 0, False)


@pytest.mark.parametrize(
    ("op", "fields", "code"),
    [
        ("state.put", {"document": "plan", "body": [1]}, "invalid_request"),
        ("state.put", {"document": "plan"}, "invalid_request"),
        ("state.put", {"document": "plan", "body": {}, "revision": -1}, "invalid_request"),
        ("state.put", {"document": "plan", "body": {}, "revision": "x"}, "invalid_request"),
        ("state.put", {"document": "a b", "body": {}}, "invalid_name"),
        ("state.put", {"document": "_seen", "body": {}}, "forbidden"),
        ("state.put", {"document": "plan", "body": {"x": "y" * 300_000}}, "too_large"),
        ("state.patch", {"document": "plan", "body": 7}, "invalid_request"),
        ("state.delete", {"document": "_tools"}, "forbidden"),
        ("state.get", {"document": "_other"}, "invalid_request"),
        ("state.get", {"document": "plan"}, "session_not_found"),
        ("state.list", {}, "session_not_found"),
        ("state.watch", {"document": "a b"}, "invalid_name"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(house: Running, op: str, fields: Frame, code: str) -> None:
    async with greeted(house.url, house.token()) as client:
        error = await client.ask(op, session="s1", **fields)
        assert (error["op"], error["code"]) == ("error", code)
        assert error["hint"] or error["message"]


@pytest.mark.parametrize("query", ["revision=x", "revision=-1", "revision=", "nothing=1"])
async def test_a_wrong_query_of_a_deletion_is_refused(http: aiohttp.ClientSession, query: str) -> None:
    async with http.put("/v1/sessions/s1/state/plan", json={"body": {}}) as answer:
        assert answer.status == 200
    async with http.delete(f"/v1/sessions/s1/state/plan?{query}") as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "invalid_request")


# --- watching -----------------------------------------------------------------------------------------


async def test_a_watcher_is_sent_the_value_and_then_each_change(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token("user:eve")) as eve, greeted(house.url, house.token()) as ada:
        session = agent.session("s1")
        first = await session.state("plan").put({"n": 1})
        await session.state("notes").put({"n": 0})
        assert (await eve.ask("state.watch", session="s1", document="plan"))["op"] == "ok"
        assert eve.frames == []  # the answer comes first
        assert await pushed(eve) == {"op": "state", "session": "s1", **first.plain()}
        put = await ada.ask("state.put", session="s1", document="plan", body={"n": 2})
        assert (await pushed(eve))["revision"] == put["revision"]
        await ada.ask("state.put", session="s1", document="notes", body={"n": 3})
        await ada.ask("state.delete", session="s1", document="plan")
        gone = await pushed(eve)
        assert (gone["body"], gone["by"]) == (None, "user:ada")
        assert not [f for f in eve.frames if f.get("document") == "notes"]


async def test_a_watcher_of_all_gets_every_document_and_none_of_the_fabrics_own(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada, greeted(house.url, house.token()) as other:
        await agent.session("s1").state("plan").put({"n": 1})
        await other.ask("state.watch", session="s1", document="_seen")
        await ada.ask("state.watch", session="s1")
        assert (await pushed(ada))["body"] == {"n": 1}
        await agent.session("s1").state("notes").put({"n": 2})
        assert (await pushed(ada, "notes"))["body"] == {"n": 2}
        await ada.ask("ping")
        assert not [f for f in ada.frames if str(f.get("document")).startswith("_")]
        # Who comes later gets what is there, through the same subscription.
        await other.ask("state.watch", session="s1")
        assert {(await pushed(other, name))["revision"] > 0 for name in ("plan", "notes")} == {True}
        assert len(house.gateway.watches) == 1


async def test_the_fabrics_own_documents_are_pushed(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token("user:ada"), device="d1") as ada:
        session = agent.session("s1")
        async with session.run("r1") as run:
            await ada.ask("state.watch", session="s1", document="_tools")
            await ada.ask("state.watch", session="s1", document="_seen")
            assert (await pushed(ada, "_tools"))["body"] == {"calls": [], "requests": []}
            assert (await pushed(ada, "_seen"))["body"] == {"participants": {}}
            call = await run.tool("search", {})
            assert [c["id"] for c in (await pushed(ada, "_tools"))["body"]["calls"]] == [call.id]
            offset = str(await session.head())
            await ada.ask("cursor", session="s1", offset=offset)
            seen = (await pushed(ada, "_seen"))["body"]["participants"]
            assert seen == {"user:ada": {"offset": offset, "unread": 0, "devices": {"d1": offset}}}


async def test_what_is_unwatched_is_sent_no_more(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada:
        plan, notes = (agent.session("s1").state(name) for name in ("plan", "notes"))
        await plan.put({})
        await ada.ask("state.watch", session="s1", document="plan")
        await ada.ask("state.watch", session="s1", document="notes")
        await pushed(ada)
        assert (await ada.ask("state.unwatch", session="s1", document="plan"))["op"] == "ok"
        await plan.put({"n": 1})
        await notes.put({"n": 1})
        await pushed(ada, "notes")
        assert not [f for f in ada.frames if f.get("document") == "plan"]
        await ada.ask("state.unwatch", session="s1")
        assert len(house.gateway.watches) == 0
        await ada.ask("state.watch", session="s1", document="notes")
        assert (await pushed(ada, "notes"))["body"] == {"n": 1}
        assert (await ada.ask("state.unwatch", session="other"))["op"] == "ok"
    await eventually(lambda: len(house.gateway.watches) == 0)


async def test_a_connection_that_ends_watches_no_more(house: Running) -> None:
    async with greeted(house.url, house.token()) as ada, greeted(house.url, house.token()) as eve:
        for client in (ada, eve):
            await client.ask("state.watch", session="s1", document="plan")
        await eve.socket.close()
        await ada.ask("state.put", session="s1", document="plan", body={})
        await pushed(ada)
        assert len(house.gateway.watches) == 1
    await eventually(lambda: len(house.gateway.watches) == 0)


async def test_a_watch_ends_with_its_session_and_says_so(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada:
        await agent.session("s1").state("plan").put({})
        await ada.ask("state.watch", session="s1")
        await pushed(ada)
        await agent.session("s1").delete()
        gone = await ada.op("gone")
        assert (gone["session"], gone["code"]) == ("s1", "session_gone")
        await eventually(lambda: len(house.gateway.watches) == 0)
        await ada.ask("state.put", session="s1", document="plan", body={"n": 2})
        await ada.ask("state.watch", session="s1", document="plan")
        while (await pushed(ada))["body"] != {"n": 2}:
            pass


async def test_a_connection_watches_a_bounded_number_of_documents_of_a_session(start: Start) -> None:
    async with start() as house, greeted(house.url, house.token()) as ada:
        for number in range(MOST_DOCUMENTS):
            assert (await ada.ask("state.watch", session="s1", document=f"d{number}"))["op"] == "ok"
        assert (await ada.ask("state.watch", session="s1", document="d0"))["op"] == "ok"
        refused = await ada.ask("state.watch", session="s1", document="more")
        assert (refused["code"], refused["limit"]) == ("limit_exceeded", MOST_DOCUMENTS)
        assert "Unwatch" in refused["hint"]
        await ada.ask("state.unwatch", session="s1", document="d0")
        assert (await ada.ask("state.watch", session="s1", document="more"))["op"] == "ok"


async def test_what_nobody_watches_any_more_is_not_followed(house: Running) -> None:
    async with greeted(house.url, house.token("user:ada")) as ada, greeted(house.url, house.token("user:bob")) as bob:
        for one in (ada, bob):
            await one.ask("state.watch", session="s1", document="kept")
        for number in range(5):
            await ada.ask("state.watch", session="s1", document=f"d{number}")
            await bob.ask("state.put", session="s1", document=f"d{number}", body={"n": 1})
            await pushed(ada, f"d{number}")
            await ada.ask("state.unwatch", session="s1", document=f"d{number}")
        (watched,) = house.gateway.watches._watched.values()
        assert set(watched.tasks) == {"kept"}
        await bob.ask("state.put", session="s1", document="d0", body={"n": 2})
        await ada.ask("state.watch", session="s1", document="d0")
        assert (await pushed(ada, "d0"))["body"] == {"n": 2}


async def test_a_connection_watches_a_bounded_number_of_sessions(start: Start) -> None:
    async with start(limits=Limits(max_subs=2)) as house, greeted(house.url, house.token()) as ada:
        for name in ("s1", "s2"):
            assert (await ada.ask("state.watch", session=name))["op"] == "ok"
        refused = await ada.ask("state.watch", session="s3")
        assert (refused["code"], refused["limit"]) == ("limit_exceeded", 2)
        await ada.ask("state.unwatch", session="s1")
        assert (await ada.ask("state.watch", session="s3"))["op"] == "ok"


async def test_a_slow_watcher_gets_the_newest_value_of_each_document(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as slow:
        documents = [agent.session("s1").state(name) for name in ("a", "b")]
        for document in documents:
            await document.put({"n": 0})
        await slow.ask("state.watch", session="s1")
        for name in ("a", "b"):
            assert (await pushed(slow, name))["body"] == {"n": 0}
        transport = slow.stop_reading()
        for n in range(1, 120):
            for document in documents:
                await document.put({"n": n, "text": "x" * 100_000})
        transport.resume_reading()
        numbers: dict[str, list[int]] = {"a": [], "b": []}
        while [seen[-1:] for seen in numbers.values()] != [[119], [119]]:
            frame = await slow.next()
            if frame["op"] == "state":
                numbers[frame["document"]].append(frame["body"]["n"])
        for seen in numbers.values():
            assert seen == sorted(set(seen))
        assert sum(map(len, numbers.values())) < 238


async def test_a_watcher_misses_nothing_while_the_broker_is_away(start: Start, own_server: NatsNode) -> None:
    async with (
        start(nats=own_server.url) as house,
        greeted(house.url, house.token()) as ada,
        Fabric.connect(own_server.url, tenant=house.tenant) as agent,
    ):
        plan = agent.session("s1").state("plan")
        await plan.put({"n": 1})
        await ada.ask("state.watch", session="s1", document="plan")
        assert (await pushed(ada))["body"] == {"n": 1}
        own_server.kill()
        await own_server.restart()
        await eventually(lambda: agent.broker.connected, 30)
        await plan.put({"n": 2})
        assert (await pushed(ada))["body"] == {"n": 2}


# --- cursors and signals ------------------------------------------------------------------------------


async def test_a_cursor_is_set_over_http_and_never_goes_back(http: aiohttp.ClientSession, agent: Fabric) -> None:
    session = agent.session("s1")
    offsets = [str((await session.append({"type": "app.n", "n": n})).offset) for n in range(3)]
    for sent, expected in ((1, 1), (0, 1), (2, 2)):
        async with http.put("/v1/sessions/s1/cursor", json={"offset": offsets[sent], "device": "phone"}) as answer:
            assert (answer.status, await answer.json()) == (200, {"offset": offsets[expected]})
    assert await session.cursors() == [("user:ada", "phone", Offset.parse(offsets[2]))]
    for wrong, code in (("x", "invalid_offset"), (offsets[0].replace("0", "1", 1), "offset_foreign")):
        async with http.put("/v1/sessions/s1/cursor", json={"offset": wrong}) as answer:
            assert (await answer.json())["code"] == code


async def test_a_cursor_of_the_sdk_reaches_browsers(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        await ada.op("live")
        offset = await agent.session("s1").seen(await agent.session("s1").head(), device="worker")
        cursor = await ada.op("cursor")
        assert (cursor["actor"], cursor["device"], cursor["offset"]) == ("agent:writer", "worker", str(offset))


async def test_agents_and_browsers_hear_each_others_signals(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token("user:ada"), device="d1") as ada:
        await ada.open("s1")
        await ada.op("live")
        session = agent.session("s1")
        heard: list[Signal] = []
        listening = await session.on_signal(heard.append)
        await ada.send(op="signal", session="s1", body={"type": "typing"})
        await eventually(lambda: heard == [("user:ada", "d1", {"type": "typing"})])
        await session.signal({"type": "thinking"}, device="worker")
        signal = await ada.op("signal")
        assert (signal["actor"], signal["device"], signal["body"]) == ("agent:writer", "worker", {"type": "thinking"})
        await listening.close()


async def test_signals_are_dropped_before_anything_durable_when_a_connection_is_slow(
    house: Running, agent: Fabric
) -> None:
    async with greeted(house.url, house.token()) as slow:
        await slow.open("s1", after="tail")
        await slow.op("live")
        session = agent.session("s1")
        transport = slow.stop_reading()
        for n in range(300):
            await session.append({"type": "app.bulk", "n": n, "text": "x" * 20_000})
            await session.signal({"n": n, "text": "x" * 1_000})
        transport.resume_reading()
        events = await slow.until_events(lambda events: len(events) == 300, 30)
        assert [event["body"]["n"] for event in events] == list(range(300))
        assert len([f for f in slow.frames if isinstance(f, dict) and f["op"] == "signal"]) < 300
