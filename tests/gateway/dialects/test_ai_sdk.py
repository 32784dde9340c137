"""What the AI SDK's clients never send, and what becomes of their connections: over HTTP and over the socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from session_fabric import Fabric
from session_fabric.opening import OpenRun
from session_fabric.outcomes import settle
from session_fabric.rules.routing import run_of_input
from session_fabric.words.errors import SessionGone

from tests.fabric.test_trimming import trim
from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import close_code, stop_reading, transport_of
from tests.gateway.test_admission import Mine
from tests.gateway.test_floods import frame
from tests.support.waiting import eventually

CHAT = "/v1/ai-sdk/chat"


def user(text: str = "hello", id: str = "m1") -> dict[str, Any]:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


def answering(run: str) -> dict[str, Any]:
    part = {"type": "tool-look", "toolCallId": "q1", "state": "output-available", "output": 1}
    return {"id": run, "role": "assistant", "parts": [part]}


# --- over HTTP ----------------------------------------------------------------------------------------


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no messages", {"id": "s1"}, "invalid_request"),
    ("messages that are none", {"id": "s1", "messages": "hello"}, "invalid_request"),
    ("an empty list", {"id": "s1", "messages": []}, "invalid_request"),
    ("no chat", {"messages": [user()]}, "invalid_request"),
    ("a chat of a wrong form", {"id": "../s1", "messages": [user()]}, "invalid_name"),
    ("a message of a wrong form", {"id": "s1", "messages": [user(id="no id")]}, "invalid_name"),
    ("a message without an id", {"id": "s1", "messages": [{**user(), "id": ""}]}, "invalid_name"),
    ("a trigger that is none", {"id": "s1", "messages": [user()], "trigger": "go"}, "invalid_request"),
    ("the system's words last", {"id": "s1", "messages": [{**user(), "role": "system"}]}, "invalid_request"),
    ("no parts", {"id": "s1", "messages": [{"id": "m1", "role": "user"}]}, "invalid_request"),
    ("parts that are none", {"id": "s1", "messages": [{**user(), "parts": []}]}, "invalid_event"),
    ("parts of the agent's", {"id": "s1", "messages": [{**user(), "parts": [{"type": "tool-x"}]}]}, "invalid_request"),
    ("an answer to no run", {"id": "s1", "messages": [answering("run-none")]}, "invalid_request"),
    ("an answer to another session's run", {"id": "s1", "messages": [answering("run-other")]}, "invalid_request"),
    ("an edit of nothing", {"id": "s1", "messages": [user()], "messageId": "m1"}, "message_not_found"),
    ("nothing again", {"id": "s1", "messages": [user()], "trigger": "regenerate-message"}, "message_not_found"),
    ("nothing that could be again", {"id": "s1", "messages": [], "trigger": "regenerate-message"}, "invalid_request"),
]


@pytest.fixture
async def http(house: Running) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {house.token()}"}
    async with aiohttp.ClientSession(house.url, headers=headers) as session:
        yield session


@pytest.mark.parametrize(("what", "body", "code"), BAD, ids=lambda value: value if isinstance(value, str) else "")
async def test_what_a_client_never_sends_is_refused_by_name(
    http: aiohttp.ClientSession, agent: Fabric, what: str, body: dict[str, Any], code: str
) -> None:
    async with agent.session("other").run("run-other"):
        pass
    await agent.session("s1").create()
    async with http.post(CHAT, json=body) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (404 if code == "message_not_found" else 400, code), what
    assert problem["detail"]


async def test_bodies_that_are_no_json_or_too_large_are_refused(start: Start) -> None:
    async with start(limits={"max_body_bytes": 1000}) as house:
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with aiohttp.ClientSession(house.url, headers=headers) as http:
            async with http.post(CHAT, data=b"{") as answer:
                assert (answer.status, (await answer.json())["code"]) == (400, "invalid_request")
            async with http.post(CHAT, json={"id": "s1", "messages": [user("x" * 100_000)]}) as answer:
                assert (answer.status, (await answer.json())["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{CHAT}/none/stream", 204, None),
        (f"{CHAT}/none/messages", 404, "session_not_found"),
        (f"{CHAT}/none/stream?after=x", 400, "invalid_offset"),
        (f"{CHAT}/none/stream?sdk=5", 400, "invalid_request"),
        (f"{CHAT}/none/stream?abort=maybe", 400, "invalid_request"),
        (f"{CHAT}/none/stream?else=1", 400, "invalid_request"),
        (f"{CHAT}/none/messages?limit=0", 400, "invalid_request"),
        (f"{CHAT}/no%20name/stream", 400, "invalid_name"),
    ],
)
async def test_what_is_not_there_or_asked_wrongly(
    http: aiohttp.ClientSession, path: str, status: int, code: str | None
) -> None:
    async with http.get(path) as answer:
        assert answer.status == status
        if code is not None:
            assert (await answer.json())["code"] == code


async def _chunks(answer: aiohttp.ClientResponse, until: str | None = None) -> list[dict[str, Any]]:
    found = []
    async with asyncio.timeout(20):
        async for line in answer.content:
            if line.startswith(b"data: ") and line != b"data: [DONE]\n":
                found.append(orjson.loads(line[6:]))
                if found[-1]["type"] == until:
                    break
    return found


async def test_what_retention_removed_is_left_out_and_the_rest_told(
    http: aiohttp.ClientSession, house: Running, agent: Fabric
) -> None:
    session = agent.session("s1")
    ada = agent.view(tenant=house.tenant, participant="user:ada", gateway=True).session("s1")
    asked = await ada.append({"type": "message.user", "message": {"id": "m1", "role": "user", "content": "x"}}, id="m1")
    claim = {"input": str(asked.offset), "message": "m1"}
    async with OpenRun(session._parts, run_of_input("m1"), 0.0, claim=claim) as run:
        await run.text("Kept, ")
        await run.stored()
        await trim(session, agent, max_events=1)
        assert asked.offset <= (await session.record()).floor_offset
        await run.text("and more.")
        await run.stored()
        async with http.get(f"{CHAT}/s1/stream") as answer:
            found = await _chunks(answer, "text-delta")
    assert [chunk["type"] for chunk in found] == ["start", "start-step", "text-start", "text-delta"]
    assert found[0]["messageId"] == run_of_input("m1")


async def test_a_stream_is_cut_and_not_ended_when_the_gateway_stops(start: Start, agent: Fabric) -> None:
    async with start() as house, aiohttp.ClientSession(house.url) as http:
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with agent.session("s1").run("r1") as run:
            await run.text("Half")
            async with http.get(f"{CHAT}/s1/stream", headers=headers) as answer:
                await _chunks(answer, "text-delta")
                await house.gateway.drain()
                with pytest.raises(aiohttp.ClientError):
                    await _chunks(answer)


@pytest.mark.parametrize("how", ["participants", "erased"])
async def test_who_may_read_no_more_hears_no_more(start: Start, agent: Fabric, how: str) -> None:
    async with start() as house, aiohttp.ClientSession(house.url) as http, AsyncExitStack() as stack:
        house.gateway.authenticator = Mine(house.gateway.authenticator)  # type: ignore[assignment]
        session = agent.session("s1")
        await session.create(participants=["user:ada"])
        if how == "erased":
            stack.enter_context(pytest.raises(SessionGone))  # which the run's author hears too
        run = await stack.enter_async_context(session.run("r1"))
        await run.text("Half")
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with http.get(f"{CHAT}/s1/stream", headers=headers) as answer, _socket(house) as socket:
            await socket.send_json({"type": "resume", "requestId": "1", "id": "s1"})
            await _chunks(answer, "text-delta")
            await _frames(socket, "text-delta")
            if how == "participants":
                await session.remove_participant("user:ada")
                with pytest.raises(aiohttp.ClientError):
                    await _chunks(answer)
            else:
                await session.delete()
                assert (await _chunks(answer))[-1]["errorText"].startswith("session_gone: ")
            *more, error = await _frames(socket, "error")
            assert error["errorText"].startswith("forbidden: " if how == "participants" else "session_gone: ")
            assert more == []


async def test_a_page_that_does_not_read_is_cut_and_costs_no_more_than_its_buffer(start: Start, agent: Fabric) -> None:
    async with start(stalled_s=0.3) as house, aiohttp.ClientSession(house.url, read_bufsize=1024) as http:
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with agent.session("s1").run("r1") as run, http.get(f"{CHAT}/s1/stream", headers=headers) as answer:
            stop_reading(answer)
            peer = await eventually(lambda: next(iter(house.gateway._peers), None))
            most = 0
            async with asyncio.timeout(60):
                while house.gateway._peers:
                    await run.text("x" * 10_000)
                    await run.stored()
                    most = max(most, peer.outbox.buffered_bytes)
            assert most < 1024 * 1024
            assert house.gateway.metrics.slow._value.get() == 1


async def test_what_was_stopped_before_anybody_took_it_is_ended_by_whoever_comes(
    http: aiohttp.ClientSession, agent: Fabric
) -> None:
    async with http.post(CHAT, json={"id": "s1", "messages": [user()]}) as answer:
        assert answer.status == 200
        async with http.post(f"{CHAT}/s1/stop") as stopped:
            assert stopped.status == 201
        session = agent.session("s1")
        (asked,) = [e for e in (await session.history()).events if e.type == "control.requested"]
        assert asked.body["deadline_ms"] is None  # it has as long as the message itself
        async with session.run(run_of_input("m1")) as run:
            await asyncio.Event().wait()
        assert run.cancelled
        assert (await _chunks(answer))[-1]["type"] in ("abort", "finish")


async def test_what_nobody_has_taken_yet_is_resumed_and_can_be_stopped(http: aiohttp.ClientSession) -> None:
    async with http.post(CHAT, json={"id": "s1", "messages": [user()]}) as answer:
        assert answer.status == 200
    async with http.get(f"{CHAT}/s1/stream") as answer:
        assert answer.status == 200
    async with http.post(f"{CHAT}/s1/stop") as answer:
        assert (answer.status, (await answer.json())["run"]) == (201, run_of_input("m1"))


async def test_an_answer_whose_agent_is_gone_is_stopped_at_once(http: aiohttp.ClientSession, agent: Fabric) -> None:
    run, parts = run_of_input("m1"), agent.session("s1")._parts
    async with http.post(CHAT, json={"id": "s1", "messages": [user()]}) as answer:
        assert answer.status == 200
        claim = await settle(parts, run, {"type": "RUN_STARTED", "run": run, "pool": "default", "message": "m1"})
        await settle(parts, run, {"type": "run.orphaned", "run": run, "holder": "h1"}, expect=claim.offset.sequence)
        async with http.post(f"{CHAT}/s1/stop") as stopped:
            assert stopped.status == 201
        assert (await _chunks(answer))[-1]["type"] in ("abort", "finish")
    ends = [e.type for e in (await agent.session("s1").history()).events][-2:]
    assert ends == ["control.accepted", "RUN_FINISHED"]


# --- over the socket ----------------------------------------------------------------------------------


@asynccontextmanager
async def _socket(house: Running, **claims: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {house.token(**claims)}"}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{house.url}/v1/ai-sdk/ws", headers=headers) as socket,
    ):
        yield socket


async def _frames(socket: aiohttp.ClientWebSocketResponse, until: str) -> list[dict[str, Any]]:
    """Return the frames up to one of a type, or with a chunk of it."""
    found = []
    while True:
        found.append(orjson.loads(await socket.receive_str(timeout=20)))
        if until in (found[-1]["type"], found[-1].get("chunk", {}).get("type")):
            return found


@pytest.mark.parametrize(
    ("frame", "id", "code"),
    [
        ("no json", "", "invalid_request"),
        ("[]", "", "invalid_request"),
        ('{"type":"hello","requestId":"1"}', "1", "invalid_request"),
        ('{"type":"send","requestId":"1","id":"s1"}', "1", "invalid_request"),
        ('{"type":"send","id":"s1","messages":[]}', "", "invalid_request"),
        ('{"type":"resume","requestId":"1","id":"no name"}', "1", "invalid_name"),
        ('{"type":"resume","requestId":1,"id":"s1"}', "", "invalid_request"),
    ],
)
async def test_frames_that_no_client_sends_are_refused_under_their_id(
    house: Running, frame: str, id: str, code: str
) -> None:
    async with _socket(house) as socket:
        await socket.send_str(frame)
        (error,) = await _frames(socket, "error")
        assert error["requestId"] == id
        assert error["errorText"].startswith(f"{code}: ")
        await socket.send_json({"type": "resume", "requestId": "2", "id": "none"})
        assert await _frames(socket, "no-active") == [{"type": "no-active", "requestId": "2"}]


async def test_an_id_that_is_under_way_is_not_taken_twice_and_may_be_let_go(house: Running, agent: Fabric) -> None:
    async with _socket(house) as socket, agent.session("s1").run("r1") as run:
        await run.text("Half")
        await socket.send_json({"type": "resume", "requestId": "1", "id": "s1"})
        frames = await _frames(socket, "text-delta")
        assert frames[0] == {"type": "start", "requestId": "1"}
        assert [frame["sequence"] for frame in frames[1:]] == list(range(len(frames) - 1))
        await socket.send_json({"type": "resume", "requestId": "1", "id": "s1"})
        assert (await _frames(socket, "error"))[-1]["errorText"].startswith("invalid_request: ")
        await socket.send_json({"type": "abort", "requestId": "1"})
        await socket.send_json({"type": "abort", "requestId": "nobody's"})
        await run.text(" and half")
        await run.stored()
        await socket.send_json({"type": "resume", "requestId": "2", "id": "s1"})
        assert {frame["requestId"] for frame in await _frames(socket, "text-delta")} == {"2"}


async def test_what_is_aborted_as_it_begins_is_as_if_it_had_not_begun(house: Running) -> None:
    async with _socket(house) as socket:
        message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
        send = {"type": "send", "requestId": "1", "id": "s1", "trigger": "submit-message", "messages": [message]}
        abort = {"type": "abort", "requestId": "1"}
        transport_of(socket._response).write(b"".join(frame(orjson.dumps(f)) for f in (send, abort)))
        await socket.send_json({"type": "resume", "requestId": "2", "id": "none"})
        assert (await _frames(socket, "no-active"))[-1] == {"type": "no-active", "requestId": "2"}


async def test_who_sends_nothing_but_nonsense_is_closed(house: Running) -> None:
    async with _socket(house) as socket:
        for _ in range(100):
            await socket.send_str("nonsense")
        message = await socket.receive(timeout=20)
        while message.type is aiohttp.WSMsgType.TEXT:
            message = await socket.receive(timeout=20)
        assert close_code(socket, message) == 4503
    async with _socket(house) as socket:
        await socket.send_bytes(b"{}")
        assert close_code(socket, await socket.receive(timeout=20)) == 4502


async def test_a_token_that_ends_closes_its_socket(house: Running) -> None:
    async with _socket(house, expires_in_s=2) as socket:
        assert close_code(socket, await socket.receive(timeout=20)) == 4410


async def test_what_was_redacted_is_in_no_answer(http: aiohttp.ClientSession, house: Running, agent: Fabric) -> None:
    session = agent.session("s1")
    async with session.run("r1") as run, run.message("m1") as message:
        await message.text("The secret.")
    operator = agent.view(tenant=house.tenant, participant="operator:eve", gateway=True).session("s1")
    await operator.redact("m1", reason="asked for")

    async def gone() -> bool:
        async with http.get(f"{CHAT}/s1/messages") as loaded, http.get(f"{CHAT}/s1/stream") as stream:
            return b"secret" not in await loaded.read() + await stream.read()

    assert await eventually(gone)
