"""The gateway as a process of its own, to be stopped and killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class GatewayProcess:
    """A started gateway; `said` is its ready line."""

    process: asyncio.subprocess.Process
    log: Path
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return str(self.said["url"])

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = 20.0) -> int:
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()

    def events(self) -> list[dict[str, Any]]:
        """Return the log's events; a line that is none fails."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@asynccontextmanager
async def gateway_process(broker_url: str, directory: Path, *options: str) -> AsyncIterator[GatewayProcess]:
    """Start `python -m session_fabric_gateway` on a free port and wait until it is ready."""
    log = directory / "gateway.log"
    arguments = ["--nats", broker_url, "--json", *options]
    if "--port" not in options:
        arguments += ["--port", "0"]
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "session_fabric_gateway",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
    one = GatewayProcess(process, log)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        assert line, f"it ended: {log.read_text()}"
        one.said = json.loads(line)
        yield one
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await one.ended()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
