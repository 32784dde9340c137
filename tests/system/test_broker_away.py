"""A worker whose broker has nobody, for longer than a call has patience, to take what begins a run."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from session_fabric import AgentRun, Fabric, runlog
from session_fabric.rules.routing import run_of_input

from tests.support.servers import NatsNode
from tests.support.sessions import Following, api, ended, said

CLAIMS: Final = "KV_sf-claims"
# A call gives up after 5 s; a leader is elected within 4 to 9 s.
AWAY_S: Final = 7.0


async def test_an_input_whose_run_cannot_be_begun_for_a_while_is_answered_when_it_can(own_server: NatsNode) -> None:
    async with (
        Fabric.connect(own_server.url, participant="agent:echo", streams=2) as working,
        Fabric.connect(own_server.url, participant="user:ada") as fabric,
    ):

        @working.agent()
        async def echo(run: AgentRun) -> None:
            await run.text(run.input.text)

        serving = asyncio.create_task(echo.serve())
        session = fabric.session("chat-1")
        following = Following(session)
        await session.append(said("one", "q1"), id="q1")
        await following.until(ended(run_of_input("q1")))
        # As while a leader of it is elected: nobody answers who writes there.
        bucket = await api(fabric).api.call(f"STREAM.INFO.{CLAIMS}")
        await api(fabric).api.call(f"STREAM.DELETE.{CLAIMS}")
        await session.append(said("two", "q2"), id="q2")
        await asyncio.sleep(AWAY_S)
        await api(fabric).api.call(f"STREAM.CREATE.{CLAIMS}", bucket["config"])
        events = await following.until(ended(run_of_input("q2")), 30)
        assert [e.body["message"]["content"] for e in events if e.type == "message.completed"] == ["one", "two"]
        echo.stop()
        await serving


async def test_a_run_whose_broker_was_away_for_too_long_is_gone_on_with(
    own_server: NatsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runlog, "GIVE_UP_S", 1.0)  # instead of a minute and a half
    async with (
        Fabric.connect(own_server.url, participant="agent:echo", streams=2) as working,
        Fabric.connect(own_server.url, participant="user:ada") as fabric,
    ):
        begun, frozen, resumed = asyncio.Event(), asyncio.Event(), []

        @working.agent()
        async def echo(run: AgentRun) -> None:
            resumed.append(run.resumed)
            await run.text("one")
            begun.set()
            await frozen.wait()
            await run.text(" two")

        serving = asyncio.create_task(echo.serve())
        session = fabric.session("chat-1")
        following = Following(session)
        await session.append(said("count", "q1"), id="q1")
        async with asyncio.timeout(20):
            await begun.wait()
        own_server.freeze()
        frozen.set()
        try:
            await asyncio.sleep(AWAY_S)
        finally:
            own_server.thaw()
        events = await following.until(ended(run_of_input("q1")), 60)
        assert [e.body["message"]["content"] for e in events if e.type == "message.completed"] == ["one two"]
        assert resumed == [False, True]
        echo.stop()
        await serving
