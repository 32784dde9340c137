"""Whole processes: starting, draining, several workers, and wrong settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from session_fabric import Fabric

from tests.gateway.processes import gateway_process
from tests.gateway.sockets import connect, greeted, user_message
from tests.support.servers import NatsNode
from tests.support.sessions import stored as everything
from tests.support.waiting import eventually


async def status(url: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(url + path) as response:
        value = json.loads(await response.read())
        return response.status, value.get("code") or value.get("status")


async def test_the_ready_line_says_where_it_is(own_server: NatsNode, tmp_path: Path) -> None:
    async with gateway_process(own_server.url, tmp_path, "--insecure") as one:
        assert one.said["ws"] == f"ws{one.url.removeprefix('http')}/v1/ws"
        assert await status(one.url, "/readyz") == (200, "ok")
        async with greeted(one.url) as client:
            await client.open("s1")
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    assert [event["event"] for event in one.events() if event["level"] != "info"] == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_gateway_whose_terminal_is_gone_sends_everybody_elsewhere(
    shared_server: NatsNode, tmp_path: Path, workers: int
) -> None:
    options = ("--insecure", "--drain", "1", "--workers", str(workers))
    async with gateway_process(shared_server.url, tmp_path, *options) as one:
        async with greeted(one.url) as client:
            one.send(signal.SIGHUP)
            assert (await client.op("moved"))["after_ms"] <= 1000
        assert await one.ended() == 0


async def test_sigterm_sends_everybody_elsewhere_and_loses_nothing(shared_server: NatsNode, tmp_path: Path) -> None:
    session = f"drain-{os.getpid()}-{id(tmp_path)}"
    # As much as a fast machine stores in two seconds.
    much = [f"--limit={of}.{kind}=none" for of in ("connection", "participant") for kind in ("operations", "appends")]
    async with gateway_process(shared_server.url, tmp_path, "--insecure", "--drain", "2", *much) as one:
        async with greeted(one.url) as client, connect(one.url) as late:
            await client.open(session)
            await client.op("live")
            one.send(signal.SIGTERM)
            assert (await client.op("moved"))["after_ms"] <= 2000
            assert await status(one.url, "/readyz") == (503, "draining")
            assert await status(one.url, "/healthz") == (200, "ok")
            assert (await client.ask("open", session="another"))["code"] == "draining"
            await late.send(op="hello")
            assert (await late.op("error"))["code"] == "draining"
            assert await late.closed() == 1001
            # What is under way is carried out and answered, until the very end.
            stored: dict[str, str] = {}

            async def append() -> None:
                for number in range(10**6):
                    answer = await client.append(session, user_message("x"), id=f"e{number}")
                    stored[f"e{number}"] = answer["offset"]

            appending = asyncio.create_task(append())
            with pytest.raises(Exception, match="closed with 1001"):
                await appending
        assert await one.ended() == 0
    assert len(stored) > 10
    async with Fabric.connect(shared_server.url, tenant="default", participant="user:you") as fabric:
        events = await everything(fabric.session(session))
        found = {event.id: str(event.offset) for event in events if event.type == "message.user"}
        assert len(found) == sum(event.type == "message.user" for event in events)
        # What was acknowledged is there, all of it; of what was not, the last one may be.
        assert {id: found.get(id) for id in stored} == stored
        assert len(found) <= len(stored) + 1


async def test_a_client_that_stays_does_not_keep_the_gateway(shared_server: NatsNode, tmp_path: Path) -> None:
    options = ("--insecure", "--drain", "0.2", "--stop", "1")
    async with (
        gateway_process(shared_server.url, tmp_path, *options) as one,
        connect(one.url, autoclose=False) as client,
    ):
        await client.hello()
        one.send(signal.SIGTERM)
        assert await one.ended(8) == 0


async def test_workers_share_a_port_and_one_that_dies_is_replaced(shared_server: NatsNode, tmp_path: Path) -> None:
    async with gateway_process(shared_server.url, tmp_path, "--insecure", "--workers", "2", "--drain", "0") as one:
        pids = one.said["workers"]
        assert len(set(pids)) == 2
        async with greeted(one.url) as watcher:
            await watcher.open("workers")
            os.kill(pids[0], signal.SIGKILL)

            async def serves() -> bool:
                try:
                    async with greeted(one.url) as client:
                        return bool((await client.ask("ping"))["op"] == "pong")
                except (ConnectionError, aiohttp.ClientError):
                    return False

            for _ in range(10):
                await eventually(serves)

            async def replaced() -> bool:
                return sum(event["event"] == "worker_died" for event in one.events()) == 1

            await eventually(replaced)
            async with aiohttp.ClientSession() as http, http.get(f"{one.url}/metrics") as response:
                assert "session_fabric_gateway_connections" in await response.text()
        one.send(signal.SIGTERM)
        assert await one.ended() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_lost_broker_is_told_survived_and_caught_up(own_server: NatsNode, tmp_path: Path) -> None:
    async with (
        gateway_process(own_server.url, tmp_path, "--insecure", "--drain", "0") as one,
        greeted(one.url) as client,
    ):
        await client.open("s1")
        await client.append("s1", user_message("before"), id="e1")
        await client.op("live")
        own_server.kill()
        assert (await client.op("broker"))["connected"] is False
        assert (await status(one.url, "/readyz")) == (503, "broker_unavailable")
        assert (await status(one.url, "/healthz")) == (200, "ok")
        await own_server.restart()
        assert (await client.op("broker"))["connected"] is True

        async def stored() -> bool:
            return (await client.append("s1", user_message("after"), id="e2"))["op"] == "appended"

        await eventually(stored)
        events = await client.until_events(lambda events: [e.get("id") for e in events][-1:] == ["e2"])
        assert [event["id"] for event in events if event["type"] == "message.user"] == ["e1", "e2"]
        assert (await status(one.url, "/readyz")) == (200, "ok")
        # It is tried ten times a second, and why it fails is said once.
        reasons = [event["detail"] for event in one.events() if event["event"] == "broker_error"]
        assert len(reasons) == len(set(reasons))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "session_fabric_gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, **environment})


def test_a_busy_port_is_said_with_what_to_do() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        ended = run("--insecure", "--port", str(busy.getsockname()[1]))
    assert ended.returncode == 1
    assert "cannot be opened" in ended.stderr
    assert "--port" in ended.stderr


def test_without_tokens_it_is_not_opened_to_others() -> None:
    ended = run("--insecure", "--host", "0.0.0.0", "--port", "0")
    assert ended.returncode == 2
    assert "--insecure" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ((), {}, "Nothing says who may come in"),
        (("--dev-secret", "short", "--port", "0"), {}, "not safe below"),
        (("--dev-secret-file", "/nonexistent"), {}, "cannot be read"),
        (("--insecure", "--port", "70000"), {}, "--port '70000' is not a whole number from 0 to 65535"),
        (("--insecure",), {"SESSION_FABRIC_WORKERS": "many"}, "SESSION_FABRIC_WORKERS 'many' is not"),
    ],
)
def test_wrong_settings_end_it_with_a_sentence(
    arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    ended = run(*arguments, **environment)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broker_that_is_not_there_is_said_with_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nats = f"nats://127.0.0.1:{free.getsockname()[1]}"
        ended = run("--insecure", "--port", "0", "--nats", nats, "--broker-wait", "0")
    assert ended.returncode == 1
    assert "No broker can be reached" in ended.stderr
    assert urlsplit("nats://x").scheme == "nats"
