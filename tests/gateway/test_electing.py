"""A gateway, and an agent, that are started while the brokers elect: one node of three is up, and nobody leads."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from session_fabric import Fabric
from session_fabric.words.errors import BrokerUnavailable
from session_fabric_gateway.app import bind
from structlog.testing import capture_logs

from tests.gateway.processes import GatewayProcess
from tests.support.servers import NatsCluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.fixture
async def electing(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    """Three nodes of which one is up."""
    cluster = NatsCluster(tmp_path / "cluster")
    try:
        one = cluster.nodes[0]
        one.start()
        await eventually(lambda: one._know_ports() and bool(one.monitor("/varz", strict=False)))
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()  # one that finds no leader takes its time to stop


@asynccontextmanager
async def started(cluster: NatsCluster, directory: Path, *options: str) -> AsyncIterator[GatewayProcess]:
    """Start a gateway; it is not ready yet, and `said` has the port that it was told."""
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    log = directory / "gateway.log"
    command = [sys.executable, "-m", "session_fabric_gateway", "--nats", cluster.nodes[0].url, "--insecure", "--json"]
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *command,
            "--port",
            str(port),
            *options,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
    try:
        yield GatewayProcess(process, log, {"url": f"http://127.0.0.1:{port}"})
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def waits(one: GatewayProcess) -> bool:
    if one.process.returncode is not None:
        raise AssertionError(f"it ended with {one.process.returncode}: {one.log.read_text()}")
    return any(event["event"] == "waiting_for_broker" and "left_s" in event for event in one.events())


async def asked(one: GatewayProcess, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(one.url + path) as response:
        value = json.loads(await response.read())
        return response.status, value.get("code") or value.get("status")


async def test_a_gateway_waits_unready_until_the_brokers_have_elected(electing: NatsCluster, tmp_path: Path) -> None:
    async with started(electing, tmp_path) as one:
        await eventually(lambda: waits(one), 30)
        assert await asked(one, "/readyz") == (503, "broker_unavailable")
        assert await asked(one, "/v1/ws") == (503, "broker_unavailable")
        assert await asked(one, "/healthz") == (200, "ok")
        for node in electing.nodes[1:]:
            node.start()
        assert one.process.stdout is not None
        async with asyncio.timeout(60):
            assert json.loads(await one.process.stdout.readline())["url"] == one.url
        assert await asked(one, "/readyz") == (200, "ok")
        assert "broker_is_ready" in [event["event"] for event in one.events()]
        one.send(signal.SIGTERM)
        assert await one.ended() == 0


async def test_a_gateway_whose_brokers_lose_their_majority_is_unready_until_they_have_it_again(
    electing: NatsCluster, tmp_path: Path
) -> None:
    others = electing.nodes[1:]
    for node in others:
        node.start()
    async with started(electing, tmp_path) as one:
        assert one.process.stdout is not None
        async with asyncio.timeout(60):
            assert await one.process.stdout.readline()
        assert await asked(one, "/readyz") == (200, "ok")
        for node in others:
            node.kill()

        async def says(status: int, code: str) -> bool:
            return await asked(one, "/readyz") == (status, code)

        # The node that is left answers pings all the while.
        await eventually(lambda: says(503, "broker_unavailable"), 60)
        assert await asked(one, "/healthz") == (200, "ok")
        for node in others:
            node.start()
        await eventually(lambda: says(200, "ok"), 60)
        events = [event["event"] for event in one.events()]
        assert "move_not_finished" not in events


async def test_it_ends_with_a_sentence_when_they_elect_for_too_long(electing: NatsCluster, tmp_path: Path) -> None:
    async with started(electing, tmp_path, "--broker-wait", "0.1") as one:
        assert await one.ended(60) == 1
    assert "session-fabric-gateway: The broker at nats://127.0.0.1:" in one.log.read_text()


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
async def test_told_to_stop_while_it_waits_it_stops(
    electing: NatsCluster, tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with started(electing, tmp_path, *options) as one:
        await eventually(lambda: waits(one), 30)
        one.send(signal.SIGTERM)
        assert await one.ended() == 0


async def test_an_agent_that_connects_meanwhile_waits_too(electing: NatsCluster) -> None:
    async def open() -> str:
        async with Fabric.connect(electing.nodes[0].url, participant="agent:a", streams=1, timeout_s=60) as fabric:
            await fabric.session("chat-1").create()
            return "open"

    with capture_logs() as logs:
        opening = asyncio.create_task(open())
        await eventually(lambda: opening.done() or [e for e in logs if e["event"] == "waiting_for_broker"], 30)
        assert not opening.done()
        for node in electing.nodes[1:]:
            node.start()
        assert await opening == "open"


async def test_an_agent_is_told_what_its_broker_lacks_when_its_time_is_up(electing: NatsCluster) -> None:
    with pytest.raises(BrokerUnavailable) as refused:
        await Fabric.connect(electing.nodes[0].url, timeout_s=1)
    assert "is there, and has not done" in refused.value.message
    assert "elected leaders" in refused.value.hint
