"""`fabricctl dev` as a process, with its broker, gateway and demo agent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import psutil
import pytest
from session_fabric import Fabric

from tests.support.waiting import eventually

READY_S = 60.0


class Dev:
    """A running `fabricctl dev --json`, in a process group of its own as from a terminal."""

    def __init__(self, home: Path, *options: str, before: Callable[[], object] | None = None) -> None:
        self.err = home / f"stderr-{len(list(home.glob('stderr-*')))}"
        with self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "session_fabric_cli", "dev", "--json", *options],
                stdout=subprocess.PIPE,
                stderr=err,
                env={**os.environ, "XDG_DATA_HOME": str(home)},
                start_new_session=True,
                preexec_fn=before,
            )
        self.said: dict[str, Any] = {}
        self.family: set[int] = set()

    async def ready(self) -> Dev:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), READY_S)
        assert line, self.notices
        self.said = json.loads(line)
        self.family = {child.pid for child in psutil.Process(self.process.pid).children(recursive=True)}
        return self

    @property
    def notices(self) -> str:
        return self.err.read_text()

    @property
    def now(self) -> dict[str, Any]:
        """What it tells others about itself."""
        told: dict[str, Any] = json.loads((Path(self.said["data"]) / "dev.json").read_text())
        return told

    async def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), 30)

    async def nothing_left(self) -> None:
        """Wait until none of its processes lives."""
        await eventually(lambda: not [pid for pid in self.family if alive(pid)], 20.0)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Dev]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start development servers on a home directory of the test's own; none outlives the test."""
    async with AsyncExitStack() as stack:

        def begin(*options: str, before: Callable[[], object] | None = None) -> Dev:
            dev = Dev(tmp_path, *options, before=before)
            stack.push_async_callback(dev.nothing_left)
            stack.callback(dev.end)
            return dev

        yield begin


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ignored(pid: int) -> int:
    """Return the signals that a process ignores, a bit each."""
    return int(Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0], 16)


async def ask(fabric: Fabric, question: str, id: str = "e1", session: str = "chat") -> None:
    body = {"type": "message.user", "message": {"id": f"m-{id}", "role": "user", "content": question}}
    await fabric.session(session).append(body, id=id)


async def answer(fabric: Fabric, session: str = "chat") -> str:
    """Wait for the first answer that is complete; return its text."""
    async with asyncio.timeout(60):
        async for event in fabric.session(session).follow("start"):
            if event.type == "message.completed":
                return str(event.body["message"]["content"])
    raise AssertionError


def ada_at(said: dict[str, Any]) -> AbstractAsyncContextManager[Fabric]:
    return Fabric.connect(said["nats"], credentials=said["nats_credentials"], participant="user:ada")


async def test_one_line_of_json_says_where_everything_is(start: Start) -> None:
    dev = await start("--port", "0").ready()
    said = dev.said
    assert said["url"].startswith("http://127.0.0.1:")
    assert said["ws"] == said["url"].replace("http", "ws") + "/v1/ws"
    assert {said["broker_pid"], said["gateway_pid"], said["agent_pid"]} <= dev.family
    for token, participant in (("token", "user:you"), ("operator_token", "operator:eve")):
        claims = jwt.decode(said[token], options={"verify_signature": False})
        assert (claims["sub"], claims["tenant"]) == (participant, "default")
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{said['url']}/") as page:
            assert page.status == 200
            assert "text/html" in page.headers["Content-Type"]
        headers = {"Authorization": f"Bearer {said['token']}"}
        async with http.get(f"{said['url']}/v1/sessions", headers=headers) as listed:
            assert listed.status == 200
        async with http.get(f"{said['url']}/v1/sessions") as refused:
            assert refused.status == 401
    async with ada_at(said) as fabric:
        await ask(fabric, "What does close code 4408 mean?")
        assert "slow consumer" in await answer(fabric)
    assert await dev.stop() == 0
    assert dev.process.stdout is not None
    assert dev.process.stdout.read() == b""
    await dev.nothing_left()
    assert not (Path(said["data"]) / "dev.json").exists()


async def test_pages_of_the_origins_that_are_named_may_use_it(start: Start) -> None:
    mine, others = ("http://localhost:5173", "https://app.example"), "http://localhost:9999"
    dev = await start("--port", "0", "--no-agent", *(f"--allow-origin={origin}" for origin in mine)).ready()
    async with aiohttp.ClientSession(dev.said["url"]) as http:
        for origin in (*mine, others):
            headers = {"Authorization": f"Bearer {dev.said['token']}", "Origin": origin}
            async with http.get("/v1/sessions", headers=headers) as answer:
                allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == (None if origin == others else origin)


async def test_what_is_no_origin_is_an_error(start: Start) -> None:
    dev = start("--port", "0", "--allow-origin", "localhost:5173")
    assert await asyncio.wait_for(asyncio.to_thread(dev.process.wait), 60) == 1
    assert "--allow-origin 'localhost:5173' is no origin." in dev.notices
    assert "https://app.example" in dev.notices


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_everything_in_good_order(start: Start, number: int) -> None:
    dev = await start("--port", "0", "--no-agent").ready()
    assert dev.said["agent_pid"] is None
    assert await dev.stop(number) == 0
    await dev.nothing_left()
    assert "Traceback" not in dev.notices


async def test_under_nohup_it_outlives_its_terminal(start: Start) -> None:
    dev = start("--port", "0", "--no-agent", before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    await dev.ready()
    assert ignored(dev.process.pid) & 1 << signal.SIGHUP - 1
    assert await dev.stop(signal.SIGTERM) == 0


async def test_a_stop_while_it_starts_leaves_nothing(start: Start, tmp_path: Path) -> None:
    dev = start("--port", "0", "--data", str(tmp_path / "data"))
    await eventually(lambda: (tmp_path / "data" / "gateway.log").exists(), 30.0)
    dev.family = {child.pid for child in psutil.Process(dev.process.pid).children(recursive=True)}
    assert await dev.stop() == 0
    await dev.nothing_left()


async def test_its_children_end_when_it_is_killed(start: Start) -> None:
    dev = await start("--port", "0").ready()
    dev.process.kill()
    await dev.nothing_left()


async def test_sessions_are_there_after_a_restart_and_old_tokens_are_good(start: Start) -> None:
    first = await start("--port", "0", "--no-agent").ready()
    async with Fabric.connect(
        first.said["nats"], credentials=first.said["nats_credentials"], participant="user:ada"
    ) as fabric:
        await fabric.session("kept").create()
    await first.stop()
    second = await start("--port", "0", "--no-agent").ready()
    headers = {"Authorization": f"Bearer {first.said['token']}"}
    url = f"{second.said['url']}/v1/sessions"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as listed:
        assert [row["session"] for row in (await listed.json())["sessions"]] == ["kept"]


async def test_a_second_one_runs_beside_the_first(start: Start) -> None:
    first = await start("--no-agent", "--port", "0").ready()
    second = await start("--no-agent", "--port", "0").ready()
    assert first.said["url"] != second.said["url"]
    assert Path(second.said["data"]).name == "dev-2"
    assert "in use by process" in second.notices


async def test_a_busy_port_that_was_asked_for_is_an_error(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        dev = start("--port", str(port))
        assert await asyncio.wait_for(asyncio.to_thread(dev.process.wait), 30) == 1
    assert dev.notices.startswith(f"fabricctl: Port {port}")
    assert "--port" in dev.notices.splitlines()[1]


async def test_an_address_that_is_not_ours_is_an_error(start: Start) -> None:
    dev = start("--host", "192.0.2.1")  # set aside for documentation (RFC 5737): nobody has it
    assert await asyncio.wait_for(asyncio.to_thread(dev.process.wait), 30) == 1
    assert "192.0.2.1" in dev.notices
    assert "--host" in dev.notices


async def test_a_data_directory_in_use_that_was_asked_for_is_an_error(start: Start, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    first = await start("--port", "0", "--no-agent", "--data", data).ready()
    second = start("--port", "0", "--data", data)
    assert await asyncio.wait_for(asyncio.to_thread(second.process.wait), 30) == 1
    assert f"in use by process {first.process.pid}" in second.notices
    assert "--data" in second.notices


async def test_a_data_directory_that_cannot_be_written_is_an_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dev = start("--port", "0", "--data", str(tmp_path / "file" / "data"))
    assert await asyncio.wait_for(asyncio.to_thread(dev.process.wait), 30) == 1
    assert str(tmp_path / "file" / "data") in dev.notices
    assert "Traceback" not in dev.notices


async def test_a_killed_gateway_comes_back_at_the_same_address(start: Start) -> None:
    dev = await start("--port", "0", "--no-agent").ready()
    os.kill(dev.said["gateway_pid"], signal.SIGKILL)
    await eventually(lambda: "The gateway is back" in dev.notices, 30.0)
    assert dev.now["url"] == dev.said["url"]
    dev.family.add(dev.now["gateway_pid"])
    async with aiohttp.ClientSession() as http, http.get(f"{dev.said['url']}/healthz") as healthy:
        assert healthy.status == 200


async def test_a_killed_broker_comes_back_and_the_agent_works_on(start: Start) -> None:
    dev = await start("--port", "0").ready()
    os.kill(dev.said["broker_pid"], signal.SIGKILL)
    await eventually(lambda: "The broker is back" in dev.notices, 30.0)
    assert dev.now["nats"] == dev.said["nats"]
    dev.family.add(dev.now["broker_pid"])
    async with Fabric.connect(
        dev.said["nats"], credentials=dev.said["nats_credentials"], participant="user:ada"
    ) as fabric:
        await ask(fabric, "What does close code 4408 mean?")
        assert "slow consumer" in await answer(fabric)


async def test_a_question_whose_agent_was_killed_in_mid_answer_is_answered_by_the_next(start: Start) -> None:
    dev = await start("--port", "0").ready()
    async with Fabric.connect(
        dev.said["nats"], credentials=dev.said["nats_credentials"], participant="user:ada"
    ) as fabric:
        await ask(fabric, "What does close code 4408 mean?")
        async with asyncio.timeout(30):
            async for event in fabric.session("chat").follow("start"):
                if event.type == "TEXT_MESSAGE_CONTENT":
                    break
        os.kill(dev.said["agent_pid"], signal.SIGKILL)
        assert "slow consumer" in await answer(fabric)
        dev.family.add(dev.now["agent_pid"])

        async def ends() -> list[str]:
            types = [event.type for event in (await fabric.session("chat").history()).events]
            return [t for t in types if t.startswith(("run.", "RUN_")) or t == "message.completed"]

        await eventually(lambda: finished(ends))
        life = ["RUN_STARTED", "run.orphaned", "run.taken_over", "message.completed", "RUN_FINISHED"]
        assert await ends() == life


async def finished(ends: Callable[[], Awaitable[list[str]]]) -> bool:
    return "RUN_FINISHED" in await ends()


async def test_a_running_one_is_found_by_the_other_commands(start: Start, tmp_path: Path) -> None:
    dev = await start("--port", "0", "--no-agent").ready()
    async with Fabric.connect(
        dev.said["nats"], credentials=dev.said["nats_credentials"], participant="user:ada"
    ) as fabric:
        await fabric.session("found").create()
    listed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "session_fabric_cli", "session", "ls"],
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "found" in listed.stdout


async def test_without_json_it_says_where_to_look(start: Start, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "session_fabric_cli", "dev", "--port", "0", "--no-agent"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
    )
    assert process.stdout is not None
    seen = ""
    async with asyncio.timeout(READY_S):
        while "Ctrl-C stops everything." not in seen:
            seen += (await process.stdout.readline()).decode()
    assert "/#token=" in seen
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert "Your sessions are kept in" in err.decode()


async def test_the_parts_log_in_the_form_that_was_asked_for(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "data"
    dev = await start("--port", "0", "--no-agent", "--data", str(data), "--log-format", "console").ready()
    assert await dev.stop() == 0
    lines = (data / "gateway.log").read_text().splitlines()
    assert any("draining" in line for line in lines)
    assert [line for line in lines if line.startswith("{")] == []


async def test_a_form_of_logs_that_there_is_not_is_refused(start: Start) -> None:
    dev = start("--port", "0", "--log-format", "xml")
    assert await asyncio.to_thread(dev.process.wait, 30) == 2
    assert "json or console" in dev.notices
