"""Reading a session through the gateway: history, then live, without a seam, in every form."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from session_fabric import Fabric

from tests.gateway.conftest import Running
from tests.gateway.sockets import Frame, greeted, user_message
from tests.support.waiting import eventually

TEXT = "TEXT_MESSAGE_CONTENT"


def offsets(events: list[Frame]) -> list[str]:
    return [event["offset"] for event in events]


def units(text: str) -> bytes:
    """Positions count UTF-16 code units."""
    return text.encode("utf-16-le")


def text_of(events: list[Frame], message: str) -> str:
    """Fold a message's deltas, and the completion that replaces them."""
    text = b""
    for event in events:
        body = event["body"]
        if event["type"] == "message.completed" and body["message"]["id"] == message:
            return str(body["message"]["content"])
        if event["type"] == "message.snapshot" and body["message"]["id"] == message:
            text = max(text, units(body["message"]["content"]), key=len)
        if event["type"] == TEXT and body["messageId"] == message:
            at = 2 * event["at"]
            assert at <= len(text), "a hole"
            text = max(text, text[:at] + units(body["delta"]), key=len)
    return text.decode("utf-16-le")


def ended(events: list[Frame]) -> bool:
    return bool(events) and events[-1]["type"] == "RUN_FINISHED"


async def test_history_comes_first_then_live_then_what_happens(house: Running, agent: Fabric) -> None:
    session = agent.session("s1")
    for number in range(5):
        await session.append({"type": "app.n", "n": number})
    async with greeted(house.url, house.token()) as client:
        opened = await client.open("s1")
        await client.op("live")
        assert [event["body"].get("n") for event in client.events] == [None, 0, 1, 2, 3, 4]
        assert opened["head"] == client.events[-1]["offset"]
        assert (await client.op("mark"))["offset"] == opened["head"]
        await session.append({"type": "app.n", "n": 5})
        events = await client.until_events(lambda events: len(events) == 7)
        assert events[-1]["body"]["n"] == 5
        assert (await client.op("mark"))["offset"] == events[-1]["offset"]


async def test_what_the_live_path_has_brought_and_no_mark_covers_comes_behind_the_mark_before_it(
    house: Running, agent: Fabric
) -> None:
    session = agent.session("s1")
    first = (await session.append({"type": "app.n", "n": 0})).offset
    async with house.gateway.hub.reading(session.place) as feed:
        await eventually(lambda: feed.marked is not None)
        last = [(await session.append({"type": "app.n", "n": n})).offset for n in (1, 2)][-1]
        await eventually(lambda: feed.marked == last)
        feed.marked = first  # as where the broker cannot be asked whether that is all
        async with greeted(house.url, house.token()) as client:
            await client.open("s1", after=str(first))
            await client.op("live")
            ops = [frame["op"] for frame in client.frames if frame["op"] in ("mark", "events")]
            assert ops == ["mark", "events"]
            assert {frame["offset"] for frame in client.frames if frame["op"] == "mark"} == {str(first)}
            assert [event["body"]["n"] for event in client.events] == [1, 2]


async def test_a_hole_that_is_found_while_a_reader_is_behind_is_filled_for_it_too(
    house: Running, agent: Fabric
) -> None:
    session = agent.session("s1")
    first = (await session.append({"type": "app.n", "n": 0})).offset
    async with house.gateway.hub.reading(session.place) as feed, greeted(house.url, house.token()) as client:
        await client.open("s1", after=str(first))
        await client.op("live")
        for n in (1, 2, 3):
            await session.append({"type": "app.n", "n": n})
        events = await client.until_events(lambda events: len(events) == 3)
        await eventually(lambda: feed.marked == feed.ring.delivered)
        (peer,) = house.gateway._peers
        peer._paused()  # type: ignore[attr-defined]
        records = list(feed.ring.after(first))
        feed.rewind(records[0].offset)
        feed.records(records[1:])
        await client.op("rewind")
        await client.until_events(lambda events: len(events) == 5)
    assert [event["body"]["n"] for event in events] == [1, 2, 3, 2, 3]


async def test_tail_brings_only_what_happens_from_now_on(house: Running, agent: Fabric) -> None:
    session = agent.session("s1")
    await session.append({"type": "app.n", "n": 0})
    async with greeted(house.url, house.token()) as client:
        opened = await client.open("s1", after="tail")
        await client.op("live")
        last = await session.append({"type": "app.n", "n": 1})
        events = await client.until_events(bool)
    assert opened["head"] < events[0]["offset"] == str(last.offset)


async def test_an_offset_brings_exactly_what_is_behind_it(house: Running, agent: Fabric) -> None:
    session = agent.session("s1")
    stored = [str((await session.append({"type": "app.n", "n": number})).offset) for number in range(10)]
    async with greeted(house.url, house.token()) as client:
        for at in (0, 4, 9):
            client.events.clear()
            sub = (await client.open("s1", after=stored[at]))["sub"]
            await client.until(lambda frame: isinstance(frame, dict) and frame["op"] == "live")
            assert offsets(client.events) == stored[at + 1 :]
            await client.ask("close", sub=sub)


@pytest.mark.parametrize("deltas", [{}, {"deltas": "compact"}])
async def test_whoever_joins_in_mid_answer_ends_with_the_same_text(
    house: Running, agent: Fabric, deltas: dict[str, Any]
) -> None:
    words = [f"wörd-{number} 🙂 " for number in range(300)]
    begun, following = asyncio.Event(), asyncio.Event()

    async def write() -> str:
        async with agent.session("s1").run("r1", window_s=0.001) as run, run.message("m1") as message:
            for number, word in enumerate(words):
                if number == 200:  # who stays has come, however late it was let
                    await following.wait()
                await message.text(word)
                if number % 10 == 9:
                    begun.set()
                    await asyncio.sleep(0.002)
        return "".join(words)

    async def read(resumes: int) -> list[Frame]:
        stays = resumes == 0
        events: list[Frame] = []
        after = "start"
        while True:
            async with greeted(house.url, house.token(), **deltas) as client:
                client.events = events
                await client.open("s1", after=after)
                if stays:
                    await client.op("live")
                    following.set()
                enough = len(events) + 20 if resumes else 10**6
                found = await client.until_events(
                    lambda events, enough=enough: len(events) >= enough or ended(events)  # type: ignore[misc]
                )
                if found[-1]["type"] == "RUN_FINISHED":
                    return found
                resumes -= 1
                after = events[-1]["offset"]

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        await begun.wait()
        readers = [group.create_task(read(number)) for number in range(6)]
    expected = writing.result()
    for reader in readers:
        events = reader.result()
        assert offsets(events) == sorted(set(offsets(events))), "in order, each once"
        assert text_of(events, "m1") == expected
    # Who stayed from before the completion had all of it in deltas, too.
    deltas_alone = [event for event in readers[0].result() if event["type"] != "message.completed"]
    assert text_of(deltas_alone, "m1") == expected


async def test_a_late_joiner_pays_by_messages_and_not_by_tokens(house: Running, agent: Fabric) -> None:
    session = agent.session("s1")
    for number in range(5):
        async with session.run(f"r{number}", window_s=0.0) as run, run.message(f"m{number}") as message:
            for word in range(100):
                await message.text(f"word{word} ")
    async with greeted(house.url, house.token()) as client:
        await client.open("s1")
        await client.op("live")
    assert not [event for event in client.events if event["type"] == TEXT]
    assert text_of(client.events, "m4").endswith("word99 ")
    assert len(client.events) < 60


async def test_compact_deltas_cost_under_thirty_bytes_beyond_their_text(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token(), deltas="compact") as client:
        await client.open("s1")
        await client.op("live")
        async with agent.session("s1").run("r1", window_s=0.0) as run, run.message("m1") as message:
            for number in range(50):
                await message.text("word ")
                # One at a time: what comes faster is joined by the writer.
                await client.until_events(lambda events, n=number: len(text_of(events, "m1")) == 5 * (n + 1))  # type: ignore[misc]
        await client.until_events(ended)
        frames = client.frames
    arrays = [frame for frame in frames if isinstance(frame, list)]
    deltas = [event for event in client.events if event["type"] == TEXT]
    size = sum(len(str(frame)) for frame in arrays)
    assert len(arrays) > 10
    text = "".join(event["body"]["delta"] for event in deltas)
    assert text == "word " * 50
    assert (size - len(text)) / len(deltas) < 32
    assert sum(isinstance(frame, dict) and frame["op"] == "ref" for frame in frames) == 1


async def test_all_viewers_of_a_session_get_the_same_bytes(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as one, greeted(house.url, house.token("user:eve")) as two:
        for client in (one, two):
            await client.open("s1", after="tail")
            await client.op("live")
        for number in range(20):
            await agent.session("s1").append({"type": "app.n", "n": number})
        for client in (one, two):
            await client.until_events(lambda events: len(events) >= 20)
        assert one.events == two.events
        assert [f for f in one.frames if f["op"] == "events"] == [f for f in two.frames if f["op"] == "events"]


async def test_the_view_messages_leaves_out_what_messages_do_not_need(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as client:
        full, part = "s1", "s1"
        await client.open(part, view="messages")
        await client.op("live")
        async with agent.session(full).run("r1") as run:
            await run.text("hello")
            tool = await run.tool("search", {"q": "x"})
            await tool.result("found")
        await client.append("s1", user_message("and now?"), id="e1")
        await client.until_events(lambda events: bool(events) and events[-1]["type"] == "message.user")
        seen = {event["type"] for event in client.events}
        assert not any(type.startswith("TOOL_CALL_") for type in seen)
        assert {"RUN_STARTED", "message.completed", "RUN_FINISHED"} <= seen


async def test_what_one_connection_appends_stays_in_order(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        first = (await client.open("s1"))["head"]
        for number in range(200):
            event = {"id": f"e{number}", "body": {"type": "app.n", "n": number}}
            # Every other one has to be looked for first: the next must not overtake it.
            since = {"since": first} if number % 2 == 0 else {}
            await client.send(op="append", id=1000 + number, session="s1", event=event, **since)
        events = await client.until_events(lambda events: len(events) == 201)
    assert [event["body"]["n"] for event in events[1:]] == list(range(200))


async def test_a_body_that_is_not_json_from_a_native_publisher_is_shown_as_malformed(
    house: Running, agent: Fabric
) -> None:
    session = agent.session("s1")
    await session.append({"type": "app.n"})
    async with greeted(house.url, house.token()) as client:
        await client.open("s1")
        await client.op("live")
        await _publish_raw(agent, "s1", b"\xff not json")
        events = await client.until_events(lambda events: len(events) == 3)
        await session.append({"type": "app.after"})
        await client.until_events(lambda events: len(events) == 4)
    assert events[2]["body"]["type"] == "fabric.malformed"


async def _publish_raw(agent: Fabric, session: str, payload: bytes) -> None:
    """Store bytes that are no event, as a native program may."""
    from session_fabric.words.events import Draft

    record = await agent.session(session).record()
    draft = Draft("app.raw", payload, "raw1", "ev", "_", "agent:writer", "agent:writer")
    await agent.broker.log.publish(record.stretch, draft)


async def test_signals_and_cursors_reach_the_others_and_not_oneself(house: Running) -> None:
    async with (
        greeted(house.url, house.token("user:ada"), device="d1") as ada,
        greeted(house.url, house.token("user:eve"), device="d2") as eve,
    ):
        sub = 0
        for client in (ada, eve):
            sub = (await client.open("s1"))["sub"]
            await client.op("live")
        await ada.send(op="signal", session="s1", body={"typing": True})
        assert await eve.op("signal") == {
            "op": "signal",
            "sub": sub,
            "actor": "user:ada",
            "device": "d1",
            "body": {"typing": True},
        }
        offset = eve.events[0]["offset"]
        assert (await eve.ask("cursor", session="s1", offset=offset))["op"] == "ok"
        assert await ada.op("cursor") == {
            "op": "cursor",
            "sub": sub,
            "actor": "user:eve",
            "device": "d2",
            "offset": offset,
        }
        await ada.ask("ping")
        assert not [frame for frame in ada.frames if frame["op"] == "signal"]


async def test_a_signal_that_is_too_large_is_refused(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        await client.send(op="signal", session="s1", body={"x": "y" * 70_000})
        assert (await client.op("error"))["code"] == "too_large"
