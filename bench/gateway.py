"""The gateway as a process of its own, in front of a broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil


class GatewayProcess:
    """`with GatewayProcess(url, log) as gateway:` lets everybody in at `gateway.port`, under the name they say.

    `access`: who is let in instead, and how much they may do, as flags. `module`: what is run,
    with arguments ahead of the gateway's own.
    """

    def __init__(
        self,
        nats: str,
        log: Path,
        access: Sequence[str] = ("--insecure",),
        module: Sequence[str] = ("session_fabric_gateway",),
    ) -> None:
        command = [sys.executable, "-m", *module, "--nats", nats, "--port", "0", "--json"]
        with log.open("w") as file:
            self.process = psutil.Popen([*command, *access], stdout=subprocess.PIPE, stderr=file)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the gateway did not start: {log.read_text()[-1000:]}")
        self.port = int(json.loads(line)["url"].rstrip("/").rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        stop(self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def stop(process: psutil.Popen) -> None:
    """End a process in order; kill it where it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def cpu_s(process: psutil.Process | psutil.Popen) -> float:
    """Return the seconds of processor that a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
