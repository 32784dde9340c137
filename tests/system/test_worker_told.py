"""A worker that is told to end, by whatever signal: it drains; where somebody will not wait for that, it says so."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import sys
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Fabric, Session

from tests.support.servers import NatsNode
from tests.support.sessions import exact, said, stored, types
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
SOME, MANY = 300, 1_000_000


@asynccontextmanager
async def leaver(node: NatsNode, tenant: str, log: Path, count: int, **options: Any) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "tests.system.leaver", node.url, tenant, str(count))
    with log.open("wb") as stderr:
        options = {"stdin": PIPE, "stdout": PIPE, "stderr": stderr, **options}
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def until(process: Process, line: bytes) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while (found := await process.stdout.readline()).strip() != line:
            assert found, f"it ended before {line!r}"


async def ended(process: Process) -> int:
    """Let it end; what it still prints is read."""
    async with asyncio.timeout(30):
        await process.communicate(None if process.stdin is None else b"\n")
    assert process.returncode is not None
    return process.returncode


def events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
async def session(shared_server: NatsNode, tenant: str) -> AsyncIterator[Session]:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="user:ada") as fabric:
        yield fabric.session("chat-1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_worker_that_is_told_to_end_ends_its_runs_first(
    shared_server: NatsNode, tenant: str, tmp_path: Path, session: Session, number: signal.Signals
) -> None:
    async with leaver(shared_server, tenant, tmp_path / "log", SOME) as worker:
        await until(worker, b"ready")
        await session.append(said("count"))
        await until(worker, b"at it")
        worker.send_signal(number)
        await until(worker, b"served")
        assert await ended(worker) == 0
    assert "RUN_FINISHED" in types(exact(await stored(session)))


async def test_a_worker_whose_terminal_is_closed_ends_its_runs_first(
    shared_server: NatsNode, tenant: str, tmp_path: Path, session: Session
) -> None:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    at_terminal = {"stdin": theirs, "stdout": theirs, "preexec_fn": take_terminal}
    async with leaver(shared_server, tenant, tmp_path / "log", SOME, **at_terminal) as worker:
        os.close(theirs)
        await session.append(said("count"))

        def until_busy() -> None:
            shown = b""
            while b"at it" not in shown:
                shown += os.read(ours, 65536)

        await asyncio.to_thread(until_busy)
        os.close(ours)
        assert await ended(worker) == 0
    assert "RUN_FINISHED" in types(exact(await stored(session)))


async def test_under_nohup_a_worker_outlives_its_terminal(
    shared_server: NatsNode, tenant: str, tmp_path: Path, session: Session
) -> None:
    deaf = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    async with leaver(shared_server, tenant, tmp_path / "log", SOME, **deaf) as worker:
        await until(worker, b"ready")
        await session.append(said("count"))
        await until(worker, b"at it")
        worker.send_signal(signal.SIGHUP)
        worker.send_signal(signal.SIGTERM)
        await until(worker, b"served")
        assert await ended(worker) == 0


async def test_a_second_ctrl_c_ends_a_worker_before_it_has_drained_and_it_says_so(
    shared_server: NatsNode, tenant: str, tmp_path: Path, session: Session
) -> None:
    log = tmp_path / "log"
    async with leaver(shared_server, tenant, log, MANY) as worker:
        await until(worker, b"ready")
        await session.append(said("count"))
        await until(worker, b"at it")
        worker.send_signal(signal.SIGINT)
        await eventually(lambda: "serving_ends" in events(log))
        worker.send_signal(signal.SIGTERM)  # as what looks after it may, too
        worker.send_signal(signal.SIGINT)
        assert await ended(worker) == 130
    assert "ended_undrained" in events(log)
    assert "Traceback" not in log.read_text()


async def test_a_second_ctrl_c_is_nothing_to_a_worker_that_has_drained(
    shared_server: NatsNode, tenant: str, tmp_path: Path, session: Session
) -> None:
    async with leaver(shared_server, tenant, tmp_path / "log", SOME) as worker:
        await until(worker, b"ready")
        await session.append(said("count"))
        await until(worker, b"at it")
        worker.send_signal(signal.SIGINT)
        await until(worker, b"ending")
        worker.send_signal(signal.SIGINT)
        assert await ended(worker) == 0
