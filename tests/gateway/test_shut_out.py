"""Who is shut out gets nothing more, at once, however far behind and whatever is under way."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from session_fabric import Fabric, Session

from tests.gateway.conftest import Start
from tests.gateway.sockets import greeted, stop_reading
from tests.gateway.tokens.test_live import KEYS, of, take_back
from tests.support.servers import nats_node
from tests.support.waiting import eventually

LARGE = {"type": "app.large", "body": "x" * 200_000}


async def _written(session: Session) -> None:
    """More than fits in all buffers on the way to one who does not read."""
    for _ in range(100):
        await session.append(LARGE)


async def _rest(answer: aiohttp.ClientResponse) -> bytes:
    """Read until the answer ends, or is cut."""
    data = bytearray()
    try:
        async with asyncio.timeout(30):
            async for chunk in answer.content.iter_any():
                data += chunk
    except aiohttp.ClientError:
        pass
    return bytes(data)


@pytest.mark.parametrize("how", ["token", "session", "removed"])
@pytest.mark.parametrize("path", ["stream?offset=-1&live=sse", "events?live=sse"])
async def test_a_stream_that_is_catching_up_ends_with_what_was_sent(
    start: Start, agent: Fabric, path: str, how: str
) -> None:
    session = agent.session("s1")
    await session.create(participants=["user:ada"])
    await _written(session)
    async with start(**KEYS) as house, aiohttp.ClientSession(house.url, read_bufsize=1024) as http:
        mine = {} if how == "removed" else {"sessions": {"*": ["*"]}}
        made = of(house, jti="t1", **mine)
        async with http.get(f"/v1/sessions/s1/{path}", headers={"Authorization": f"Bearer {made}"}) as answer:
            transport = stop_reading(answer)
            await eventually(lambda: any(peer.outbox.stalled for peer in house.gateway._peers))
            if how == "removed":
                await session.remove_participant("user:ada")
            else:
                await take_back(agent, "token" if how == "token" else "session", "t1" if how == "token" else "s1")
            await eventually(lambda: not house.gateway._peers)
            await session.append({"type": "app.secret"})
            transport.resume_reading()
            data = await _rest(answer)
    assert b"app.secret" not in data
    assert 0 < data.count(b"app.large") < 100


async def test_a_session_as_a_stream_that_nobody_reads_is_cut(start: Start, agent: Fabric) -> None:
    await _written(agent.session("s1"))
    async with start(stalled_s=1.0) as house, aiohttp.ClientSession(house.url, read_bufsize=1024) as http:
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with http.get("/v1/sessions/s1/stream?offset=-1&live=sse", headers=headers) as answer:
            stop_reading(answer)
            await eventually(lambda: len(house.gateway._peers) == 1)
            await eventually(lambda: not house.gateway._peers)


async def test_a_durable_stream_that_is_catching_up_ends_with_what_was_sent(start: Start, agent: Fabric) -> None:
    async with start(**KEYS) as house, aiohttp.ClientSession(house.url, read_bufsize=1024) as http:
        headers = {"Authorization": f"Bearer {of(house, 'agent:writer')}", "Content-Type": "text/plain"}
        await http.put("/v1/stream/logs/a", headers=headers)
        for _ in range(100):
            async with http.post("/v1/stream/logs/a", headers=headers, data=b"x" * 200_000) as stored:
                assert stored.status == 204
        reader = {"Authorization": f"Bearer {of(house, 'agent:reader', jti='t1')}"}
        async with http.get("/v1/stream/logs/a?offset=-1&live=sse", headers=reader) as answer:
            transport = stop_reading(answer)
            await eventually(lambda: any(peer.outbox.stalled for peer in house.gateway._peers))
            (peer,) = house.gateway._peers
            await take_back(agent, "token", "t1")
            await eventually(lambda: not house.gateway._peers)
            sent: Any = peer._after  # type: ignore[attr-defined]  # up to where it was sent what there is
            assert str(sent) < stored.headers["Stream-Next-Offset"]
            transport.resume_reading()
            data = await _rest(answer)
    assert data
    assert peer._after == sent  # type: ignore[attr-defined]


async def test_nothing_follows_the_close_of_a_socket(start: Start, agent: Fabric) -> None:
    session = agent.session("s1")
    async with start(**KEYS) as house, greeted(house.url, of(house, jti="t1", sessions={"*": ["*"]})) as ada:
        await ada.open("s1", after="tail")
        await ada.op("live")
        await ada.ask("state.watch", session="s2")
        transport = ada.stop_reading()
        (peer,) = house.gateway._peers
        while not peer.outbox.paused:
            await session.append(LARGE)
        # It is asked something, and waits with the answer until it is read: nothing of it ends with the close alone.
        heard = peer._vitals._heard  # type: ignore[attr-defined]
        await ada.send(op="ping", id=70)
        await eventually(lambda: peer._vitals._heard > heard)  # type: ignore[attr-defined]
        await take_back(agent, "token", "t1")
        await eventually(lambda: peer._closing)  # type: ignore[attr-defined]
        await agent.session("s2").state("plan").put({"secret": 1})
        await session.append({"type": "app.secret"})
        transport.resume_reading()
        reader: Any = ada.socket._reader  # type: ignore[attr-defined]  # the socket itself stops at the close
        said = []
        with pytest.raises((aiohttp.ClientError, aiohttp.EofStream, ConnectionError)):
            async with asyncio.timeout(20):
                while True:
                    said.append(str((await reader.read()).data))
    assert not any("secret" in one for one in said)


async def test_who_is_shut_out_of_one_session_while_behind_comes_live_in_the_other(start: Start, agent: Fabric) -> None:
    kept, lost = agent.session("kept"), agent.session("lost")
    for session in (kept, lost):
        await _written(session)
    async with start(**KEYS) as house, greeted(house.url, of(house, sessions={"*": ["*"]})) as ada:
        for name in ("kept", "lost"):
            await ada.send(op="open", id=70, session=name, after="start")
        (peer,) = house.gateway._peers
        transport = ada.stop_reading()
        await eventually(lambda: peer.outbox.stalled)
        await take_back(agent, "session", "lost")
        await eventually(lambda: ada and peer.grant is not None and not peer.grant.grants.allows("lost", "read"))
        await kept.append({"type": "app.last"})
        transport.resume_reading()
        events = await ada.until_events(lambda events: any(e["type"] == "app.last" for e in events), 30)
        assert sum(event["type"] == "app.large" for event in events) < 200
        assert (await ada.ask("ping"))["op"] == "pong"


async def test_a_watch_that_is_being_opened_is_held_to_the_new_token(start: Start, agent: Fabric) -> None:
    async with start(**KEYS) as house, greeted(house.url, of(house, sessions={"*": ["*"]})) as ada:
        await ada.ask("open", session="known")
        # Making the session takes longer than reading a token.
        await ada.send(op="state.watch", id=71, session="new", document="plan")
        await ada.send(op="refresh", id=72, token=of(house, sessions={"known": ["read"]}))
        answers = {}
        while len(answers) < 2:
            answer = await ada.until(lambda f: isinstance(f, dict) and f.get("id") in (71, 72))
            answers[answer["id"]] = answer
        assert answers[72]["op"] == "ok"
        assert answers[71].get("code") == "forbidden"
        assert len(house.gateway.watches) == 0


async def test_a_session_that_is_being_opened_is_refused_by_the_new_token(start: Start) -> None:
    async with start(**KEYS) as house, greeted(house.url, of(house, sessions={"*": ["*"]})) as ada:
        await ada.send(op="open", id=71, session="new")
        await ada.send(op="refresh", id=72, token=of(house, sessions={"known": ["read"]}))
        answer = await ada.until(lambda f: isinstance(f, dict) and f.get("id") == 71)
        assert (answer["op"], answer["code"]) == ("error", "forbidden")


@pytest.mark.parametrize("op", ["state.get", "state.list", "state.history", "who", "requests", "runs"])
async def test_what_was_asked_before_a_new_token_is_not_answered_behind_it(
    start: Start, agent: Fabric, op: str
) -> None:
    session = agent.session("s1")
    await session.append({"type": "app.note"})
    await session.state("plan").put({"secret": 1})
    async with start(**KEYS) as house, greeted(house.url, of(house, sessions={"*": ["*"]})) as ada:
        fields = {"document": "plan"} if op in ("state.get", "state.history") else {}
        # What is asked takes the broker's answer; reading a token takes none.
        await ada.send(op=op, id=71, session="s1", **fields)
        await ada.send(op="refresh", id=72, token=of(house, sessions={"known": ["read"]}))
        answer = await ada.until(lambda f: isinstance(f, dict) and f.get("id") == 71)
        assert (answer["op"], answer["code"]) == ("error", "forbidden")


async def test_who_cannot_be_looked_at_has_to_come_again(start: Start, tmp_path: Path) -> None:
    """A new token is for the sessions that one takes part in, and who takes part cannot be asked."""
    async with (
        nats_node(tmp_path) as server,
        start(nats=server.url, **KEYS) as house,
        greeted(house.url, of(house, sessions={"*": ["*"]})) as ada,
    ):
        await ada.open("s1")
        server.kill()
        await ada.until(lambda f: isinstance(f, dict) and f.get("op") == "broker")
        answer = await ada.ask("refresh", token=of(house))
        assert (answer["op"], answer["code"]) == ("error", "broker_unavailable")
        assert await ada.closed() == 1011
        await server.restart()


@pytest.mark.parametrize(
    "path",
    [
        "sessions/s1/events?live=long-poll",
        "sessions/s1/stream?offset=-1&live=long-poll",
        "stream/logs/a?offset=-1&live=long-poll",
    ],
)
async def test_a_poll_that_finds_something_at_once_looks_at_the_token_again(
    start: Start, tmp_path: Path, path: str
) -> None:
    async with nats_node(tmp_path) as server, start(nats=server.url, **KEYS) as house:
        async with Fabric.connect(server.url, tenant=house.tenant, participant="agent:writer") as writer:
            await writer.session("s1").append({"type": "app.first"})
        url, granted = f"{house.url}/v1/{path}", {"*": ["*"], "/*": ["*"]}
        headers = {"Authorization": f"Bearer {of(house, sessions=granted)}", "Content-Type": "text/plain"}
        async with aiohttp.ClientSession(house.url, headers=headers) as http:
            assert (await http.put("/v1/stream/logs/a", data=b"entry")).status == 201

        async def polled(made: str) -> int:
            headers = {"Authorization": f"Bearer {made}"}
            async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
                return answer.status

        assert await polled(of(house, sessions=granted)) == 200
        ends_s = int(time.time()) + 2  # it counts for half a minute longer, for clocks that differ
        server.freeze()
        polling = asyncio.create_task(polled(of(house, sessions=granted, exp=ends_s - 30)))
        try:
            await eventually(lambda: time.time() > ends_s)
        finally:
            server.thaw()
        assert await polling == 401
