"""Ended by Ctrl-C or a signal: it leaves with 130, no traceback, the terminal as it was, no part of a file."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from session_fabric import Fabric

from tests.support.servers import NatsNode

INTERRUPTED = 130
_WITHIN_S = 30.0


class Terminal:
    """A command of fabricctl at a terminal of its own."""

    def __init__(self, *arguments: str, home: Path, nats: str, tenant: str) -> None:
        self.shown = ""
        self._fd, theirs = pty.openpty()
        self._before = termios.tcgetattr(self._fd)
        environment = {
            **os.environ,
            "SESSION_FABRIC_NATS": nats,
            "SESSION_FABRIC_TENANT": tenant,
            "XDG_DATA_HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "TERM": "xterm",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_A_TERMINAL, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, text: str) -> None:
        """Read what it shows until there is this text."""
        deadline = time.monotonic() + _WITHIN_S
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read(), self.shown

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def ended(self) -> int:
        """Read to the end; return what it left with. Fails where it leaves the terminal otherwise than it was."""
        deadline = time.monotonic() + _WITHIN_S
        while self._read():
            assert time.monotonic() < deadline, self.shown
        left = self.process.wait(_WITHIN_S)
        assert termios.tcgetattr(self._fd) == self._before
        assert self.shown.rfind("\x1b[?25l") <= self.shown.rfind("\x1b[?25h"), "the cursor is hidden"
        assert "Traceback" not in self.shown
        return left

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._fd], [], [], _WITHIN_S)
        try:
            data = os.read(self._fd, 65536) if ready else b""
        except OSError:  # so a terminal says that nobody is at it any more
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


# The terminal has to be the one that controls the process: else Ctrl-C is a character as any other.
_AT_A_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from session_fabric_cli.__main__ import main
main()
"""


@pytest.fixture
def nats(shared_server: NatsNode, tenant: str) -> str:
    async def talk() -> None:
        async with Fabric.connect(shared_server.url, tenant=tenant, participant="agent:a", streams=4) as fabric:
            session = fabric.session("chat")
            async with session.run("r1") as agent_run:
                await agent_run.text("Hello.")
            for begin in range(0, 1500, 100):  # so many at once are stored in time on a busy machine too
                async with asyncio.TaskGroup() as writing:
                    for n in range(begin, begin + 100):
                        writing.create_task(session.append({"type": "app.n", "n": n}))

    asyncio.run(talk())
    return shared_server.url


@contextmanager
def at_terminal(*arguments: str, home: Path, nats: str, tenant: str) -> Iterator[Terminal]:
    terminal = Terminal(*arguments, home=home, nats=nats, tenant=tenant)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        (("session", "tail", "chat"), "app.n"),
        (("session", "tail", "chat", "--chat"), "Hello."),
        (("session", "tail", "chat", "-o", "json", "--after", "start"), '"n":1'),
        (("session", "replay", "chat", "--speed", "0.000001", "--events"), "session.created"),
        (("session", "delete", "chat"), "Type chat to go on"),
        (("session", "close", "chat"), "[y/N]"),
    ],
)
def test_ctrl_c_ends_a_command(nats: str, tenant: str, tmp_path: Path, command: tuple[str, ...], shows: str) -> None:
    with at_terminal(*command, home=tmp_path, nats=nats, tenant=tenant) as terminal:
        terminal.until(shows)
        terminal.type(b"\x03")
        assert terminal.ended() == INTERRUPTED


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_export_that_is_cut_off_leaves_nothing_of_its_file(
    nats: str, tenant: str, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = ("session", "export", "chat", "--file", str(out / "chat.jsonl"))
    with at_terminal(*command, home=tmp_path, nats=nats, tenant=tenant) as terminal:
        deadline = time.monotonic() + _WITHIN_S
        while not list(out.iterdir()):
            assert time.monotonic() < deadline
        terminal.process.send_signal(signal.SIGSTOP)  # however fast it is, it is not done
        assert not (out / "chat.jsonl").exists()
        terminal.process.send_signal(number)
        terminal.process.send_signal(signal.SIGCONT)
        assert terminal.ended() == status
    assert list(out.iterdir()) == []


def test_a_backup_that_is_cut_off_leaves_whole_files_and_goes_on(nats: str, tenant: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("backup", "create", str(out))
    with at_terminal(*command, home=tmp_path, nats=nats, tenant=tenant) as terminal:
        deadline = time.monotonic() + _WITHIN_S
        while not list(out.glob("sessions/*")):
            assert time.monotonic() < deadline
        terminal.process.send_signal(signal.SIGSTOP)
        assert not (out / "tenant.jsonl").exists()
        terminal.process.send_signal(signal.SIGTERM)
        terminal.process.send_signal(signal.SIGCONT)
        assert terminal.ended() == 143
    assert list(out.rglob("*.part")) == []
    with at_terminal(*command, home=tmp_path, nats=nats, tenant=tenant) as terminal:
        terminal.until("Wrote 1 session ")
        assert terminal.ended() == 0


def test_ctrl_c_before_anything_is_loaded_is_no_traceback() -> None:
    """While modules are imported: sent by the import of one of them, so that it is always then."""
    script = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from session_fabric_cli.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script, "context", "ls"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")  # a shell says 130


def test_a_development_server_at_a_terminal_is_ended_by_ctrl_c(tmp_path: Path, tenant: str) -> None:
    with at_terminal("dev", "--port", "0", "--no-agent", home=tmp_path, nats="", tenant=tenant) as terminal:
        terminal.until("Ctrl-C stops everything.")
        assert "export SESSION_FABRIC_NATS_CREDENTIALS=" in terminal.shown
        terminal.type(b"\x03")
        assert terminal.ended() == 0
    assert "Your sessions are kept in" in terminal.shown
