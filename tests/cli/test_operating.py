"""`fabricctl consumer | gateway | agent ls` with a broker, a gateway and workers that are there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from session_fabric import AgentRun, Fabric
from session_fabric_cli.main import run

from tests.gateway.conftest import running
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]


class Operator:
    """Somebody at a terminal, whose commands run beside what they are about."""

    def __init__(self, capsys: Capture) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        self._capsys.readouterr()
        ended = await asyncio.to_thread(run, list(arguments))
        out, err = self._capsys.readouterr()
        assert ended == status, err
        return out, err

    async def told(self, *arguments: str, status: int = 0) -> Any:
        told = json.loads((await self(*arguments, "-o", "json", status=status))[0])
        for row in told if isinstance(told, list) else [told]:
            # Programs get lengths and moments, not what people read; snake_case, and no blanks.
            assert not {"up", "oldest"} & row.keys()
            assert all(re.fullmatch(r"[a-z][a-z0-9_]*", key) for key in row)
        return told


@pytest.fixture
async def house(own_server: NatsNode, tenant: str) -> AsyncIterator[Fabric]:
    async with Fabric.connect(own_server.url, tenant=tenant, participant="agent:helper", streams=2) as fabric:
        yield fabric


@pytest.fixture
def operator(
    house: Fabric, own_server: NatsNode, tenant: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Operator:
    monkeypatch.setenv("SESSION_FABRIC_NATS", own_server.url)
    monkeypatch.setenv("SESSION_FABRIC_TENANT", tenant)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return Operator(capsys)


def asking(house: Fabric) -> Fabric:
    return house.view(participant="user:ada")


async def ask(house: Fabric, session: str, text: str) -> None:
    await (
        asking(house)
        .session(session)
        .append({"type": "message.user", "message": {"id": f"m-{text}", "role": "user", "content": text}})
    )


class Helper:
    """A worker whose runs last until it is told to let them end."""

    def __init__(self, fabric: Fabric) -> None:
        self.release = asyncio.Event()
        self.asked: list[str] = []

        @fabric.agent(pool="default", concurrency=3)
        async def answer(agent_run: AgentRun) -> None:
            self.asked.append(agent_run.session.name)
            await self.release.wait()
            await agent_run.text("Done.")

        self.agent = answer

    async def __aenter__(self) -> Helper:
        self._task = asyncio.create_task(self.agent.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_who_serves_a_pool_is_listed_with_runs_in_hand(house: Fabric, operator: Operator, tenant: str) -> None:
    async with Helper(house) as helper:
        await ask(house, "chat", "one")
        await eventually(lambda: helper.asked)
        (row,) = await operator.told("agent", "ls")
        assert (row["pool"], row["participant"], row["runs"], row["concurrency"]) == ("default", "agent:helper", 1, 3)
        assert (row["worker"], row["tenant"]) == (house.broker.holder, tenant)
        out, _ = await operator("agent", "ls")
        assert out.splitlines()[0].split() == (
            ["TENANT", "POOL", "PARTICIPANT", "WORKER", "VERSION", "HOST", "RUNS", "OF", "SINCE", "STATE"]
        )
    out, err = await operator("agent", "ls", "--tenant", "nobody")
    assert (out, err) == ("", "Nobody serves a pool of tenant nobody now.\n")


async def test_a_drained_pool_gets_nothing_until_it_is_resumed(house: Fabric, operator: Operator) -> None:
    async with Helper(house) as helper:
        await ask(house, "first", "one")
        await eventually(lambda: helper.asked == ["first"])
        told = await operator.told("consumer", "drain", "default", "--yes", "--for", "10m")
        assert (told["waiting"], told["given_back"]) == (0, 0)
        await ask(house, "second", "two")
        rows = await operator.told("consumer", "ls")
        (pool,) = [row for row in rows if row["kind"] == "pool"]
        assert (pool["pending"], pool["in_ack"]) == (1, 0)
        assert 0 < pool["paused_s"] <= 600
        assert pool["state"] == "paused"
        assert "paused for 10m" in (await operator("consumer", "ls"))[0]
        assert {row["durable"] for row in rows if row["kind"] == "own"} == {"sf-deadlines"}
        assert "pool-default" in {row["durable"] for row in await operator.told("consumer", "lag", status=1)}
        assert helper.asked == ["first"]
        await operator("consumer", "resume", "default")
        await eventually(lambda: helper.asked == ["first", "second"])
        out, err = await operator("consumer", "lag", "--over", "1h")
        assert (out, err) == ("", "Nothing is behind.\n")


async def test_a_drain_does_not_ask_where_nobody_sits(house: Fabric, operator: Operator) -> None:
    async with Helper(house):
        await eventually(lambda: operator_sees_pool(operator))
        _, err = await operator("consumer", "drain", "default", status=2)
        assert "--yes" in err
        _, err = await operator("consumer", "drain", "defalt", "--yes", status=3)
        assert "Did you mean default?" in err


async def operator_sees_pool(operator: Operator) -> bool:
    return any(row["kind"] == "pool" for row in await operator.told("consumer", "ls"))


async def test_a_gateway_says_of_itself_and_is_drained_over_the_broker(
    house: Fabric, operator: Operator, own_server: NatsNode, tenant: str
) -> None:
    async with running(own_server.url, tenant, drain_s=0.2) as harness:
        (row,) = await operator.told("gateway", "ls")
        assert (row["connections"], row["draining"], row["address"]) == (0, False, harness.url)
        _, err = await operator("gateway", "drain", "nosuchgateway", "--yes", status=3)
        assert "fabricctl gateway ls" in err
        out, _ = await operator("gateway", "drain", row["gateway"][:12], "--yes")
        assert "is drained" in out
        (row,) = await operator.told("gateway", "ls")
        assert (row["draining"], row["drained"], row["state"]) == (True, True, "drained")
        short = ("--seconds", "1", "--sessions", "1")
        _, err = await operator("bench", "--gateway", harness.url, *short, status=1)
        assert "takes nobody now: it is drained" in err
    out, err = await operator("gateway", "ls")
    assert err == "No gateway lives at this broker.\n"
