"""What is whispered in a session: no user gets it, on any path by which one is read; operators do, where events are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from session_fabric import Fabric, Session
from session_fabric.rules.routing import run_of_input
from session_fabric_gateway.openapi import document

from tests.gateway.conftest import Running
from tests.gateway.sockets import SUBPROTOCOL, user_message
from tests.gateway.tokens.signing import token
from tests.security.attacks import runs
from tests.security.scene import KEY
from tests.support.sessions import stored
from tests.support.waiting import eventually

ME, EVE, SECRET = "user:mal", "operator:eve", "psst-9f2c"
# What the run says before the last whisper, and behind it.
SO_FAR, THE_END = b"so far", b"the end"
ONE, STREAM, RUN_STREAM = "/v1/sessions/shared", "/v1/sessions/shared/stream", "/v1/sessions/shared/runs/{run}/stream"
AI_SDK, AG_UI, TANSTACK = "/v1/ai-sdk/chat", "/v1/ag-ui", "/v1/tanstack/shared"
UI_MESSAGE = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
RUN_INPUT = {"threadId": "shared", "runId": "e1", "messages": [{"id": "m1", "role": "user", "content": "Hello"}]}
OPENS = {"op": "open", "id": 1, "session": "shared"}


class Way(NamedTuple):
    """How a session is read. `{run}` and `{head}`: the run, and where the session began, as they are then.

    `shows`: what is whispered, to whom it may be told; `says`: what the run says. `body`: it is posted, and is what the
    run answers. `frames`: it is a socket, on which these are sent first.
    """

    path: str
    shows: bool = False
    says: bool = True
    live: bool = False
    body: dict[str, Any] | None = None
    frames: tuple[Any, ...] | None = None
    protocols: tuple[str, ...] = ()
    status: int = 200


def socket(*frames: Any, shows: bool = True, lanes: bool = False, **hello: Any) -> Way:
    first = {"op": "hello", "token": "{token}", **hello}
    protocols = (f"{SUBPROTOCOL}.lanes", SUBPROTOCOL) if lanes else (SUBPROTOCOL,)
    return Way("/v1/ws", shows, True, True, None, (*([1] if lanes else []), first, *frames), protocols)


EVENTS = (
    Way(f"{ONE}/events", shows=True),
    Way(f"{ONE}/events?after={{head}}", shows=True),
    Way(f"{ONE}/events?before=tail&limit=1000", shows=True),
    Way(f"{ONE}/events?live=long-poll&timeout_ms=0", shows=True),
    Way(f"{ONE}/events?view=messages"),
    Way(f"{ONE}/events?live=sse", shows=True, live=True),
    Way(f"{ONE}/events?live=sse&view=messages", live=True),
    Way(STREAM, shows=True),
    Way(f"{STREAM}?offset={{head}}&live=long-poll", shows=True),
    Way(f"{STREAM}?offset=-1&live=sse", shows=True, live=True),
    Way(RUN_STREAM, shows=False),
    Way(f"{RUN_STREAM}?offset={{head}}&live=long-poll"),
    Way(f"{RUN_STREAM}?offset=-1&live=sse", live=True),
    socket(OPENS),
    socket(OPENS, deltas="compact"),
    socket({**OPENS, "view": "messages"}, shows=False),
    socket(OPENS, lanes=True),
)
DIALECTS = (
    Way(AI_SDK, live=True, body={"id": "shared", "messages": [UI_MESSAGE]}),
    Way(f"{AI_SDK}/shared/stream", live=True),
    Way(f"{AI_SDK}/shared/messages"),
    Way("/v1/ai-sdk/ws", live=True, frames=({"type": "resume", "requestId": "r1", "id": "shared"},)),
    Way(AG_UI, live=True, body=RUN_INPUT),
    Way(f"{AG_UI}/shared", live=True),
    Way(f"{AG_UI}/shared/runs/{{run}}", live=True),
    Way(TANSTACK, live=True, body=RUN_INPUT),
    Way(f"{TANSTACK}?threadId=shared", says=False),  # what a run says that is to be joined is left to that
    Way(f"{TANSTACK}?runId={{run}}&offset=-1", live=True),
    Way(f"{TANSTACK}?runId={{run}}&offset=-1", live=True, frames=()),
)
BESIDE = (
    Way("/v1/sessions", says=False),
    *(Way(f"{ONE}{rest}", says=False) for rest in ("", "/runs", "/requests", "/presence", "/floor", "/retention")),
    *(Way(f"{ONE}/state{rest}", says=False) for rest in ("", "/_tools", "/_seen", "/_seen/history")),
    Way(f"{ONE}/messages"),
    Way(f"{ONE}/messages?branch=visible"),
    # No user's, whatever his token says; of an open run it has what is not of its text.
    Way(f"{ONE}/export", shows=True, says=False, status=403),
)

WAYS = (*EVENTS, *DIALECTS, *BESIDE)


def named(way: Way) -> str:
    return f"{'socket ' if way.frames is not None else 'POST ' if way.body is not None else ''}{way.path}"


@pytest.fixture
async def stage(guarded: Running, broker_url: str | None) -> AsyncIterator[Fabric]:
    async with Fabric.connect(broker_url, tenant=guarded.tenant, participant="service:stage") as fabric:
        yield fabric


class Reading:
    """What is read in one way by one participant, as it comes; `places` is what the path names."""

    def __init__(self, house: Running, way: Way, token: str) -> None:
        self._house = house
        self._way = way
        self._token = token
        self.places: dict[str, str] = {}
        self.data = b""
        self.status = 0

    async def read(self) -> None:
        """Ask, and read to the end, if there is one."""
        way, url = self._way, self._house.url + self._way.path.format(**self.places)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self._token}"}) as http:
            if way.frames is not None:
                async with http.ws_connect(url, protocols=way.protocols) as socket:
                    self.status = 200
                    for frame in way.frames:
                        await socket.send_str(orjson.dumps(frame).decode().replace("{token}", self._token))
                    async for message in socket:
                        self.data += str(message.data).encode()
                return
            async with http.request("GET" if way.body is None else "POST", url, json=way.body) as answer:
                self.status = answer.status
                async for chunk in answer.content.iter_any():
                    self.data += chunk

    async def has(self, text: bytes) -> None:
        await eventually(lambda: text in self.data)


@asynccontextmanager
async def under_way(reading: Reading) -> AsyncIterator[None]:
    task = asyncio.create_task(reading.read())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def told(house: Running, fabric: Fabric, way: Way, who: str) -> Reading:
    """Return what is read of a session in which it is whispered before a run, in it, and while it is read."""

    def session(of: str) -> Session:
        return fabric.view(tenant=house.tenant, participant=of, gateway=True).session("shared")

    async def asked() -> str | None:
        return next((event.id for event in await stored(agent) if event.type == "message.user"), None)

    async def ended() -> bool:
        return any(THE_END in event.raw for event in await stored(agent))

    async def whispers() -> None:
        await eve.whisper(f"{SECRET} to all")
        await eve.whisper(f"{SECRET} to one", run=reading.places["run"])

    agent, eve = session("agent:writer"), session(EVE)
    reading = Reading(house, way, token(key=KEY, sub=who, tenant=house.tenant, sessions={"*": ["*"]}))
    await agent.create(participants=[ME])
    head = str(await agent.head())
    async with AsyncExitStack() as stack:
        if way.body is None:
            await session(who).append(user_message("Hello"), id="e1")
        else:
            await stack.enter_async_context(under_way(reading))
        reading.places = {"run": run_of_input(await eventually(asked)), "head": head}
        await whispers()
        async with agent.run(reading.places["run"]) as run:
            await run.text(f"{SO_FAR.decode()} ")
            if way.live and way.body is None:
                await stack.enter_async_context(under_way(reading))
            if way.live:
                await reading.has(SO_FAR)
            await whispers()
            await run.text(THE_END.decode())
            await eventually(ended)
            await (reading.has(THE_END) if way.live else reading.read())
    return reading


@runs("W1")
@pytest.mark.parametrize("way", WAYS, ids=named)
async def test_a_user_never_gets_what_is_whispered(guarded: Running, stage: Fabric, way: Way) -> None:
    read = await told(guarded, stage, way, ME)
    assert read.status == way.status
    assert SECRET.encode() not in read.data
    assert b'"whisper"' not in read.data
    assert (THE_END in read.data) is way.says


@pytest.mark.parametrize("way", WAYS, ids=named)
async def test_an_operator_gets_what_is_whispered_where_events_are_read(
    guarded: Running, stage: Fabric, way: Way
) -> None:
    read = await told(guarded, stage, way, EVE)
    assert read.status == 200
    assert (SECRET.encode() in read.data) is way.shows


async def test_a_users_fork_has_nothing_of_what_is_whispered(guarded: Running, stage: Fabric) -> None:
    way = Way(f"{ONE}/events", shows=True)
    await told(guarded, stage, way, ME)
    mine = stage.view(tenant=guarded.tenant, participant=ME, gateway=True).session("shared")
    fork = await mine.fork(at=await mine.head(), name="shared-fork")
    assert [event.type for event in await stored(fork)][-1] == "session.forked"
    assert not [event for event in await stored(fork) if SECRET.encode() in event.raw]


def test_no_path_that_reads_a_session_is_missing() -> None:
    asked = {way.path.partition("?")[0] for way in WAYS}
    served = [
        path for path, item in document()["paths"].items() if "get" in item and re.search("{(session|chat)}", path)
    ]
    assert len(served) > 10
    patterns = {path: re.compile(re.sub(r"{\w+}", "[^/]+", path)) for path in served}
    assert [path for path, pattern in patterns.items() if not any(map(pattern.fullmatch, asked))] == []
