"""Who may do less than a moment ago does less, on connections that are open too."""

from __future__ import annotations

import asyncio

from tests.security.attacks import runs
from tests.security.scene import Scene
from tests.support.waiting import eventually


@runs("M1")
async def test_who_takes_part_no_more_hears_nothing_more_on_any_path(scene: Scene) -> None:
    mal, secret = scene.attacker(), scene.hidden.word
    session = scene.session("between", "operator:eve")
    await session.create(participants=["user:mal"])
    await session.append({"type": "app.before"})
    begun = asyncio.Event()

    async def streamed() -> bytes:
        begun.set()
        return (await mal.http("GET", "/v1/sessions/between/events?live=sse&after=tail", until=b"app.after")).body

    async def polled() -> str | None:
        return (await mal.http("GET", "/v1/sessions/between/events?live=long-poll&after=tail")).code

    async with mal.socket() as client, asyncio.TaskGroup() as group:
        await client.open("between")
        await client.op("live")
        stream, poll = group.create_task(streamed()), group.create_task(polled())
        await begun.wait()
        await eventually(lambda: any(b"retry" in data for data in mal.received))
        await session.remove_participant("user:mal")
        assert (await client.op("gone"))["code"] == "forbidden"
        told = await stream
        assert b'"code":"forbidden"' in told
        await session.append({"type": "app.after", "text": secret})
        assert (await client.ask("ping"))["op"] == "pong"
        poll.cancel()
    assert not any(b"app.after" in data for data in mal.received)


@runs("M2")
async def test_a_new_token_that_names_no_sessions_ends_those_that_one_does_not_take_part_in(scene: Scene) -> None:
    mal = scene.attacker(sessions={"*": ["*"]})
    session = scene.session("between", "operator:eve")
    await session.create()
    async with mal.socket() as client:
        await client.open("between")
        await client.op("live")
        assert (await client.ask("state.watch", session="between"))["op"] == "ok"
        assert (await client.ask("refresh", token=scene.token()))["op"] == "ok"
        assert (await client.op("gone"))["code"] == "forbidden"
        await session.append({"type": "app.after", "text": scene.hidden.word})
        await session.state("plan").put({"secret": scene.hidden.word})
        assert (await client.ask("who", session="between"))["code"] == "forbidden"
        assert (await client.ask("ping"))["op"] == "pong"
    assert not any(b"app.after" in data for data in mal.received)


@runs("M2")
async def test_who_is_shut_out_by_a_narrower_token_is_told_so_when_he_is_removed_too(scene: Scene) -> None:
    """With the narrower token his taking part counts, from then on."""
    mal = scene.attacker(sessions={"*": ["*"]})
    session = scene.session("between", "operator:eve")
    await session.create(participants=["user:mal"])
    async with mal.socket() as client:
        await client.open("between")
        await client.op("live")
        assert (await client.ask("refresh", token=scene.token()))["op"] == "ok"
        assert (await client.ask("who", session="between"))["op"] == "present"
        await session.remove_participant("user:mal")
        assert (await client.op("gone"))["code"] == "forbidden"


@runs("M3")
async def test_who_may_only_append_stops_no_run_by_what_he_appends(scene: Scene) -> None:
    mal = scene.attacker(sessions={"shared": ["read", "append"]})
    await scene.session("shared", "operator:eve").create()
    message = {"type": "message.user", "message": {"id": "m1", "role": "user", "content": "stop"}}
    for more, operation in (
        ({"when_busy": "interrupt"}, "control:interrupt"),
        ({"when_busy": "steer"}, "control:steer"),
        ({"redirects": "r1"}, "control:redirect"),
    ):
        async with mal.socket() as client:
            answer = await client.append("shared", message | more)
            assert (answer["code"], answer["operation"]) == ("forbidden", operation)
        reply = await mal.http("POST", "/v1/sessions/shared/events", {"body": message | more})
        assert (reply.code, reply.json["operation"]) == ("forbidden", operation)
    for more in ({}, {"when_busy": "queue"}):
        assert (await mal.http("POST", "/v1/sessions/shared/events", {"body": message | more})).status == 201
