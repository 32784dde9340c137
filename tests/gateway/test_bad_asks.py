"""What cannot be done in a session with life in it, each refused by its code, or told in the log, to who asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from session_fabric import Fabric

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted, user_message

# What is asked by whom, once: run `old` has ended, `other` is a run of another session, request `q1` is answered,
# document `plan` is at a revision beyond 1.
REFUSED: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("a control for a run that has ended", "user:ada", "control", {"run": "old", "action": "cancel"}, "run_closed"),
    ("a control that is none", "user:ada", "control", {"run": "old", "action": "explode"}, "invalid_request"),
    ("a steer without text", "user:ada", "control", {"run": "new", "action": "steer"}, "invalid_request"),
    ("a deadline of a year", "user:ada", "control", {"run": "new", "action": "cancel", "deadline_ms": 3 * 10**10},
     "invalid_request"),
    ("a second answer", "user:ada", "answer", {"request": "q1", "body": "two"}, "already_answered"),
    ("an answer to nothing", "user:ada", "answer", {"request": "q9", "body": "two"}, "request_not_found"),
    ("an answer to what is asked of others", "user:ada", "answer", {"request": "q2", "body": "two"}, "forbidden"),
    ("an answer that is none", "operator:eve", "answer", {"request": "q2", "body": "green"}, "invalid_request"),
    ("a patch to a stale revision", "user:ada", "state.patch", {"document": "plan", "revision": 1, "body": {}},
     "conflict"),
    ("a patch that is no object", "user:ada", "state.patch", {"document": "plan", "body": [1]}, "invalid_request"),
    ("a document over the limit", "user:ada", "state.put", {"document": "big", "body": {"x": "x" * 300_000}},
     "too_large"),
    ("a document of the fabric's own", "user:ada", "state.put", {"document": "_tools", "body": {}}, "forbidden"),
    ("a hand-over to nobody", "operator:eve", "handoff.offer", {"to": "nobody"}, "invalid_request"),
    ("a hand-over of what one has not got", "user:ada", "handoff.offer", {"to": "role:operator"}, "not_holder"),
    ("an offer that was never made", "operator:eve", "handoff.accept", {"request": "ho-9"}, "request_not_found"),
    ("the floor, by a user", "user:ada", "floor.take", {}, "forbidden"),
    ("speaking without the floor", "operator:eve", "say", {"message": {"id": "m", "content": "x"}}, "not_holder"),
    ("a policy by a user", "user:ada", "policy", {"policy": {"when_busy": "queue"}}, "forbidden"),
    ("a policy that is none", "operator:eve", "policy", {"policy": {"when_busy": "never"}}, "invalid_request"),
    ("a cursor of another session", "user:ada", "cursor", {"offset": "0000000000000001_0000000000000001"},
     "offset_foreign"),
    ("presence of 5 KiB", "user:ada", "presence", {"data": {"x": "x" * 5000}}, "too_large"),
]  # fmt: skip


async def test_what_cannot_be_done_is_refused_by_its_code(house: Running, agent: Fabric) -> None:
    session = agent.session("s1")
    async with session.run("old"):
        pass
    for number in range(3):
        await session.state("plan").put({"n": number})
    async with session.run("new") as run, asyncio.TaskGroup() as group:
        first = group.create_task(run.ask("Which?", id="q1"))
        second = group.create_task(run.ask("Which?", id="q2", options=["red", "blue"], to="role:operator"))
        async with (
            greeted(house.url, house.token("user:ada")) as ada,
            greeted(house.url, house.token("operator:eve")) as eve,
        ):
            for one in (ada, eve):
                await one.open("s1")
                await one.until_events(lambda e: sum(x["type"] == "input.requested" for x in e) == 2)
            assert (await ada.ask("answer", session="s1", request="q1", body="one"))["op"] == "answered"
            for what, who, op, fields, code in REFUSED:
                asker = ada if who == "user:ada" else eve
                answer = await asker.ask(op, session="s1", **fields)
                assert (answer["op"], answer.get("code")) == ("error", code), what
                assert answer["message"], what
            assert (await eve.ask("answer", session="s1", request="q2", body="red"))["op"] == "answered"
        assert (await first).body == "one"
        assert (await second).by == "operator:eve"


async def test_an_agent_that_does_not_stop_is_told_of_to_who_asked(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")

        async def stubborn() -> None:
            async with agent.session("s1").run("r1") as run:
                await run.text("x")
                over = asyncio.Event()
                asyncio.get_running_loop().call_later(30, over.set)
                while not over.is_set() and run.ended is None:
                    try:
                        await asyncio.wait_for(over.wait(), 0.05)
                    except (TimeoutError, asyncio.CancelledError):
                        continue

        working = asyncio.create_task(stubborn())
        await ada.until_events(lambda events: any(e["type"] == "RUN_STARTED" for e in events))
        await ada.ask("control", session="s1", run="r1", action="cancel", event="c1", deadline_ms=100)
        events = await ada.until_events(lambda events: any(e["type"] == "RUN_FINISHED" for e in events))
        told = [e["body"].get("request") for e in events if e["type"] in ("control.accepted", "control.overdue")]
        assert told == ["c1", "c1"]
        await asyncio.gather(working, return_exceptions=True)


async def test_a_question_that_nobody_takes_expires_for_who_asked(house: Running) -> None:
    async with greeted(house.url, house.token("operator:eve")) as eve:
        await eve.open("s1")
        await eve.ask("policy", session="s1", policy={"answer_within_s": 1})
        await eve.ask("append", session="s1", event={"id": "q1", "body": user_message("anybody?") | {"pool": "nobody"}})
        events = await eve.until_events(lambda events: any(e["type"] == "message.expired" for e in events))
        assert (events[-1]["body"]["message"], events[-1]["body"]["reason"]) == ("m1", "no_agent")


@pytest.mark.parametrize("action", ["cancel", "interrupt"])
async def test_what_nobody_hears_expires_for_who_asked(house: Running, action: str) -> None:
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        await ada.ask("control", session="s1", run="never", action=action, event="c1", deadline_ms=100)
        events = await ada.until_events(lambda events: any(e["type"] == "control.expired" for e in events))
        assert events[-1]["body"]["request"] == "c1"


async def test_one_sessions_control_reaches_no_other_sessions_run(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        async with agent.session("s2").run("r1") as run:
            await ada.ask("control", session="s1", run="r1", action="cancel", event="c1", deadline_ms=100)
            await ada.until_events(lambda events: any(e["type"] == "control.expired" for e in events))
            await run.text("undisturbed")
        assert not run.cancelled


HALF = r'{"type":"app.note","text":"half of a pair: \ud83d"}'
DEEP = '{"type":"app.note","x":' + "[" * 300 + "]" * 300 + "}"
MANY = '{"type":"app.note","x":[' + "0," * 100_000 + "0]}"


@pytest.mark.parametrize("body", [HALF, DEEP, MANY], ids=["half a pair", "too deep", "too many values"])
@pytest.mark.parametrize("head", ['{"id":7,"op":"append"', '{"op":"append","id":7', ' { "op" : "append", "id" : 7 '])
async def test_who_asks_what_cannot_be_read_is_told_which_question_it_was(house: Running, head: str, body: str) -> None:
    async with greeted(house.url, house.token("user:ada")) as ada:
        await ada.socket.send_str(f'{head},"session":"s1","event":{{"id":"e1","body":{body}}}}}')
        assert (await ada.op("error"))["id"] == 7
        assert (await ada.append("s1", {"type": "app.note"}, id="e2"))["op"] == "appended"


async def test_a_number_in_a_body_that_cannot_be_read_is_not_taken_for_the_questions(house: Running) -> None:
    async with greeted(house.url, house.token("user:ada")) as ada:
        await ada.socket.send_str(r'{"op":"append","event":{"body":{"id":5},"x":"\ud83d"},"id":7}')
        assert "id" not in await ada.op("error")
