"""The gateway as a process of its own, to be killed and started again on its port."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from session_fabric.jetstream.owned import OwnedProcess

from tests.support.waiting import eventually

_READY_S = 30.0


class Gateway:
    """`python -m session_fabric_gateway`, letting in whoever says who he is. Its port stays over restarts."""

    def __init__(self, nats: str, directory: Path, options: Sequence[str] = ()) -> None:
        self._nats = nats
        self._options = options
        self._out = directory / "gateway.out"
        self._log = directory / "gateway.log"
        self._process: OwnedProcess | None = None
        self.port = 0

    async def start(self) -> None:
        command = [sys.executable, "-m", "session_fabric_gateway", "--json", "--insecure", "--nats", self._nats]
        command += ["--host", "127.0.0.1", "--port", str(self.port), *self._options]
        with self._out.open("wb") as out, self._log.open("ab") as log:
            self._process = OwnedProcess.start(command, stdout=out, stderr=log)
        url = await eventually(self._said, _READY_S)
        self.port = int(url.rstrip("/").rsplit(":", 1)[1])

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()

    async def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            await self._process.stop()

    def _said(self) -> str | None:
        assert self._process is not None
        if self._process.status is not None:
            raise RuntimeError(f"the gateway ended at its start:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")
        lines = [line for line in self._out.read_bytes().splitlines() if line.startswith(b"{")]
        return str(json.loads(lines[0])["url"]) if lines else None


@asynccontextmanager
async def serving_pages(nats: str, directory: Path, options: Sequence[str] = ()) -> AsyncIterator[Gateway]:
    """Run a gateway that may be killed and started again meanwhile."""
    gateway = Gateway(nats, directory, options)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()
