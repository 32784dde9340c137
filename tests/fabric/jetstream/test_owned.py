"""Children that end with us, with real processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest
from session_fabric.jetstream.owned import OwnedProcess

from tests.support.waiting import eventually

SLEEP = ["sleep", "600"]
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 600 & echo ready; while :; do wait; done"]


def start(command: list[str], *, stdout: int = subprocess.DEVNULL) -> OwnedProcess:
    return OwnedProcess.start(command, stdout=stdout, stderr=subprocess.DEVNULL)


async def test_a_stopped_child_is_asked_to_end() -> None:
    child = start(SLEEP)
    await child.stop()
    await child.stop()
    assert child.status == -signal.SIGTERM


async def test_a_child_that_ignores_the_request_is_killed_with_its_own_children() -> None:
    child = start(STUBBORN, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    grandchildren = psutil.Process(child.pid).children()
    assert grandchildren
    await child.stop(timeout_s=0.1)
    assert child.status == -signal.SIGKILL
    await eventually(lambda: not any(alive(g.pid) for g in grandchildren))


async def test_what_a_dead_child_leaves_behind_is_killed() -> None:
    child = start(["sh", "-c", "sleep 600 & echo $!; exit 3"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    left = int(child.stdout.readline())
    assert await child.wait() == 3
    await eventually(lambda: not alive(left))
    child.kill()


def test_a_command_that_is_not_there_leaves_no_watchdog() -> None:
    before = psutil.Process().children()
    with pytest.raises(FileNotFoundError):
        start(["/nowhere/to/be-found"])
    assert psutil.Process().children() == before


OWNER = """
import subprocess, sys, time
from session_fabric.jetstream.owned import OwnedProcess
child = OwnedProcess.start(["sh", "-c", sys.argv[1]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def killed_owner_of(script: str) -> int:
    """Let another process own a child, and kill -9 it once the child has said something; return the child."""
    with subprocess.Popen([sys.executable, "-c", OWNER, script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        assert alive(child)
        owner.kill()
    return child


async def test_a_child_ends_when_its_owner_is_killed() -> None:
    child = killed_owner_of("echo ready; exec sleep 600")
    await eventually(lambda: not alive(child))


@pytest.mark.slow
async def test_a_stubborn_child_is_killed_with_its_own_children_ten_seconds_after_its_owner() -> None:
    child = killed_owner_of("trap '' TERM; sleep 600 & echo ready; while :; do wait; done")
    grandchildren = [grandchild.pid for grandchild in psutil.Process(child).children()]
    assert grandchildren
    await eventually(lambda: not any(map(alive, [child, *grandchildren])), 30.0)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
