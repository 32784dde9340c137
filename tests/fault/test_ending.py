"""`make fault` that is told to end leaves nothing behind, whenever that is."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.fault.hosts import why_not
from tests.support.waiting import eventually

NAMESPACES = Path("/run/netns")


def namespaces(pids: set[int]) -> list[str]:
    """Return the networks that processes have made, or were making."""
    names = [path.name for path in NAMESPACES.iterdir()] if NAMESPACES.exists() else []
    return [name for name in names if any(name.startswith(f"sf{pid}-") for pid in pids)]


def mounts(directory: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(directory) in line]


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


MOMENTS: dict[str, Callable[[Path, set[int]], bool]] = {
    "networks": lambda _, pids: bool(namespaces(pids)),
    "brokers": lambda directory, _: any(directory.glob("*/n*/server.log")),
}


@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_who_is_told_to_end_leaves_nothing_behind(moment: str, number: signal.Signals, tmp_path: Path) -> None:
    # Asked once: it makes a network to see whether that can be done. Where it cannot, none are waited for.
    come = MOMENTS[moment] if moment != "networks" or why_not() is None else lambda _, pids: bool(pids)
    arguments = ["-m", "tests.fault", "--seed", "1", "--keep", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL)
    made: dict[int, psutil.Process] = {}

    def come_or_ended() -> bool:
        with suppress(psutil.NoSuchProcess):
            made.update({each.pid: each for each in psutil.Process(process.pid).children(recursive=True)})
        return process.returncode is not None or come(tmp_path, set(made))

    try:
        # Nothing says how long that takes on a machine that is busy: the time that any test has is the limit.
        await eventually(come_or_ended, math.inf, every_s=0.05)
        assert process.returncode is None, "it has ended by itself"
        process.send_signal(number)
        assert await process.wait() == 130, "it was told to end, and did so in order"
        await eventually(lambda: not any(map(lives, made.values())), math.inf)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
            await process.wait()
    assert namespaces(set(made)) == []
    assert mounts(tmp_path) == []
