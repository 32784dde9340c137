"""What is of the wrong type or value is refused where it is handed over: the error names it, and says what to use."""

from __future__ import annotations

import asyncio
from collections import ChainMap, UserDict
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from ag_ui.core import EventType, TextMessageStartEvent
from session_fabric import Fabric, Run, Session
from session_fabric.memory import MemoryBroker
from session_fabric.words.errors import FabricError, InvalidInput

NOTE = {"type": "CUSTOM", "name": "note", "value": 1}
OFFSET = "1785062400123456_0000000000000001"
NUMBERS = ("5", None, 1.5, True, -1, float("nan"), [])
OFFSETS = (OFFSET, 5, None, "begin", {})
WORDS = ("visble", 5, None, [])
OBJECTS = ("text", 5, [1])
TEXTS = (5, b"bytes", ["a"], "half \ud83d")

Call = Callable[[Fabric, Session, Any], Any]

CALLS: list[tuple[str, tuple[Any, ...], Call]] = [
    ("limit", NUMBERS, lambda f, s, x: f.sessions(limit=x)),
    ("since_ms", ("5", True, float("nan"), []), lambda f, s, x: f.sessions(since_ms=x)),
    ("cursor", (5, [], "x"), lambda f, s, x: f.sessions(cursor=x)),
    ("where", (5, "x"), lambda f, s, x: f.sessions(where=x)),
    ("limit", NUMBERS, lambda f, s, x: f.dead_letters(limit=x)),
    ("durable", NUMBERS[2:], lambda f, s, x: f.subscribe(durable=x)),
    ("ack_wait_s", ("5", 0, -1, float("nan"), None, True), lambda f, s, x: f.subscribe(durable="d", ack_wait_s=x)),
    ("max_deliver", ("5", 0, -2, 1.5, None, True), lambda f, s, x: f.subscribe(durable="d", max_deliver=x)),
    ("kind", ("input", 5, []), lambda f, s, x: f.subscribe(durable="d", kind=x)),
    ("name", (5, [], "no name"), lambda f, s, x: f.subscribe(durable="d", kind="in", name=x)),
    ("start", WORDS, lambda f, s, x: f.subscribe(durable="d", start=x)),
    ("labels", ("text", 5, ["a"], {"a": 1}, {1: "a"}), lambda f, s, x: s.create(x)),
    ("participants", ("user:ada", 5), lambda f, s, x: s.create({}, x)),
    ("at", OFFSETS, lambda f, s, x: s.fork(x)),
    ("since", OFFSETS[:2], lambda f, s, x: s.append(NOTE, id="n", since=x)),
    ("window_s", ("1", -1, 61, float("nan"), None), lambda f, s, x: s.run(window_s=x)),
    ("parent", (5, "no id", []), lambda f, s, x: s.run(parent=x)),
    ("body", OBJECTS, lambda f, s, x: s.control("steer", run="r", body=x)),
    ("deadline_ms", NUMBERS[:1] + NUMBERS[2:], lambda f, s, x: s.control("cancel", run="r", deadline_ms=x)),
    ("asked", OFFSETS, lambda f, s, x: s.outcome(x)),
    ("whispered", TEXTS, lambda f, s, x: s.whisper(x)),
    ("note", TEXTS, lambda f, s, x: s.floor().take(x)),
    ("deadline_ms", NUMBERS, lambda f, s, x: s.floor().offer("user:ada", deadline_ms=x)),
    ("offset", OFFSETS, lambda f, s, x: s.seen(x)),
    ("device", TEXTS, lambda f, s, x: s.signal({}, device=x)),
    ("sink", (5, None), lambda f, s, x: s.on_signal(x)),
    ("run", (5, None, "no id"), lambda f, s, x: s.newest_of_run(x)),
    ("before", OFFSETS, lambda f, s, x: s.history(before=x)),
    ("limit", NUMBERS, lambda f, s, x: s.history(limit=x)),
    ("before", OFFSETS[:2], lambda f, s, x: s.messages(before=x)),
    ("limit", NUMBERS, lambda f, s, x: s.messages(limit=x)),
    ("branch", WORDS, lambda f, s, x: s.messages(branch=x)),
    ("after", OFFSETS, lambda f, s, x: anext(s.follow(x))),
    ("deltas", WORDS, lambda f, s, x: anext(s.follow(deltas=x))),
    ("limit", NUMBERS, lambda f, s, x: s.inspect(limit=x)),
    ("values", OBJECTS, lambda f, s, x: s.checkpoints.put(x)),
    ("value", ("text", 5), lambda f, s, x: s.checkpoints.put({("a",): x})),
    ("value", (b"bytes",), lambda f, s, x: s.checkpoints.put({"a": x})),
    ("name", TEXTS, lambda f, s, x: s.checkpoints.get("a", x)),
    ("limit", NUMBERS, lambda f, s, x: s.checkpoints.newest("a", limit=x)),
]

RUNS: list[tuple[str, tuple[Any, ...], Callable[[Run, Any], Any]]] = [
    ("role", TEXTS, lambda run, x: run.message(role=x)),
    ("step", (*TEXTS, ""), lambda run, x: run.step(x)),
    ("options", ("SM", 5), lambda run, x: run.ask("Which?", options=x)),
    ("schema", OBJECTS, lambda run, x: run.ask("Which?", schema=x)),
    ("deadline_s", ("5", 0, -1, float("nan"), True), lambda run, x: run.ask("Which?", deadline_s=x)),
    ("args", OBJECTS, lambda run, x: run.client_tool("t", x)),
    ("attempt", NUMBERS, lambda run, x: run.begin_again(x)),
    ("wait for", ("q1", None), lambda run, x: run.resume(x)),
]


async def refused(what: str, value: Any, call: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(InvalidInput) as caught:
            made = call()
            if isinstance(made, Awaitable):
                await made
    assert caught.value.hint, f"{what}={value!r}"


async def test_arguments_are_refused_where_they_come_in() -> None:
    async with await Fabric.over(MemoryBroker(), participant="operator:eve") as fabric:
        session = fabric.session("s")
        await session.create()
        for what, values, call in CALLS:
            for value in values:
                await refused(what, value, lambda call=call, value=value: call(fabric, session, value))


async def test_what_a_run_is_told_is_refused_where_it_comes_in_and_the_run_goes_on() -> None:
    async with await Fabric.over(MemoryBroker()) as fabric:
        async with fabric.session("s").run() as run:
            for what, values, call in RUNS:
                for value in values:
                    await refused(what, value, lambda call=call, value=value: call(run, value))
            await run.text("It goes on.")
        assert [m.content for m in (await fabric.session("s").messages()).messages] == ["It goes on."]


MAPPINGS = (MappingProxyType, UserDict, ChainMap)


@pytest.mark.parametrize("mapping", MAPPINGS)
async def test_any_mapping_is_an_object(mapping: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    async with await Fabric.over(MemoryBroker()) as fabric:
        session, value = fabric.session("s"), mapping({"n": 1})
        await session.append(mapping({"type": "app.note", "value": value}))
        async with session.run() as run:
            await run.emit(mapping({"type": "app.note", "value": value}))
            await (await run.tool("t", value)).result(value)
            run.result = value
        events = (await session.history()).events
        assert [e.body["value"] for e in events if e.type == "app.note"] == [{"n": 1}, {"n": 1}]
        assert events[-1].body["result"] == {"n": 1}


async def test_a_model_of_pydantic_is_refused_with_what_makes_an_object_of_it() -> None:
    event = TextMessageStartEvent(type=EventType.TEXT_MESSAGE_START, message_id="m1", role="assistant")
    async with await Fabric.over(MemoryBroker()) as fabric, fabric.session("s").run() as run:
        with pytest.raises(InvalidInput, match="model_dump"):
            await run.emit(event)  # type: ignore[arg-type]
        await run.emit(event.model_dump(mode="json", by_alias=True, exclude_none=True))


async def test_an_offset_as_text_says_how_it_becomes_one() -> None:
    async with await Fabric.over(MemoryBroker()) as fabric:
        with pytest.raises(FabricError, match=rf"after is '{OFFSET}', and no Offset\. .*Offset\.parse"):
            await anext(fabric.session("s").follow(OFFSET))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"url": 5}, {"embedded": 5}, {"url": "nats://127.0.0.1:4222", "credentials": 5}])
async def test_what_is_no_way_to_a_broker_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"is 5\. Use"):
        Fabric.connect(**wrong)
