"""The gateway, which writes each second how many tasks it has: `python -m bench.soak.watched FILE [its options]`."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import uvloop
from session_fabric_gateway.main import main


def write_tasks(file: Path) -> None:
    """Write how many tasks the running loop has; to be called in it."""
    file.write_text(str(len(asyncio.all_tasks())))


def _watch(loops: list[asyncio.AbstractEventLoop], file: Path) -> None:
    while True:
        time.sleep(1.0)
        if loops and loops[-1].is_running():
            loops[-1].call_soon_threadsafe(write_tasks, file)


def run(arguments: list[str]) -> int:
    file, *options = arguments
    loops: list[asyncio.AbstractEventLoop] = []
    original = uvloop.new_event_loop

    def noted() -> uvloop.Loop:
        loops.append(loop := original())
        return loop

    uvloop.new_event_loop = noted
    threading.Thread(target=_watch, args=(loops, Path(file)), daemon=True).start()
    return main(options)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
