"""Servers that peers need, each on the core where it belongs: who serves viewers has one core, all else the other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from bench.gateway import stop
from bench.peers.peer import NODE, Missing, program
from bench.stage import REST_CORE, SERVING_CORE, pin

_STARTS_S: Final = 30.0


def free_port() -> int:
    """Return a port that was free a moment ago: for servers that cannot say which one they took."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def server(command: Sequence[str], log: Path, core: int, port: int | None = None) -> Iterator[psutil.Popen]:
    """Run a server on a core; with `port`, until it listens there."""
    with log.open("wb") as file:
        process = psutil.Popen(list(command), stdout=file, stderr=subprocess.STDOUT)
    try:
        pin(process.pid, core)
        if port is not None:
            _listening(process, port, log)
        yield process
    finally:
        stop(process)


def _listening(process: psutil.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + _STARTS_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-800:]
                raise RuntimeError(f"{process.args[0]} does not listen on port {port}: {tail}") from None
            time.sleep(0.01)


@contextmanager
def node(
    script: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[psutil.Popen, int]]:
    """Run a script of ./node that prints `{"port": …}` when it listens; yields it and the port."""
    if not (NODE / "node_modules").is_dir():
        raise Missing("the npm packages of bench/peers/node are not installed (`make bench-peers` installs them)")
    with log.open("wb") as file:
        command = [program("node", "https://nodejs.org"), script, *arguments]
        variables = {**os.environ, **(environment or {})}
        process = psutil.Popen(command, cwd=NODE, env=variables, stdout=subprocess.PIPE, stderr=file)
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith(b"{")), None)
        if line is None:
            raise RuntimeError(f"{script} did not start: {log.read_text(errors='replace')[-800:]}")
        pin(process.pid, SERVING_CORE)
        yield process, int(json.loads(line)["port"])
    finally:
        stop(process)


@contextmanager
def redis(directory: Path, fsync: str = "everysec") -> Iterator[tuple[psutil.Popen, int]]:
    """Run Redis as its authors advise for what must stay: an append-only file, synced every second, or as told."""
    binary, port = program("redis-server", "Debian: redis-server", "valkey-server"), free_port()
    where = directory / "redis"
    where.mkdir()
    options = {"port": port, "bind": "127.0.0.1", "dir": where, "appendonly": "yes", "appendfsync": fsync}
    flags = [text for name, value in {**options, "save": ""}.items() for text in (f"--{name}", str(value))]
    with server([binary, *flags], directory / "redis.log", REST_CORE, port) as process:
        yield process, port
