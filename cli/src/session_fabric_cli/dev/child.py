"""A child of the development server: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from session_fabric.jetstream.owned import OwnedProcess
from session_fabric.words.errors import LocalTrouble

from session_fabric_cli.dev.restarts import Restarts

READY_WITHIN_S: Final = 30.0
_LINES_SHOWN: Final = 8
_MAX_LOG: Final = 10 * 1024 * 1024
_POLL_S: Final = 0.01


class ChildFailed(LocalTrouble):
    code = "child_failed"


class Child:
    """A command that prints one JSON line when it is ready, and logs to a file.

    `command` is asked for anew at each start, and may depend on what the child said when it was first ready.
    """

    def __init__(
        self, name: str, command: Callable[[], Sequence[str]], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.said: dict[str, Any] = {}
        self._command = command
        self._environment = environment
        self._log = log
        self._out = log.with_suffix(".out")
        self._process: OwnedProcess | None = None
        self._restarts = Restarts()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until it is ready; raise `ChildFailed` with the end of its log."""
        await self.stop()
        if self._log.exists() and self._log.stat().st_size > _MAX_LOG:
            self._log.replace(self._log.with_suffix(".log.1"))
        # Its output goes to a file and not to a pipe: whatever else it prints, it never waits for us to read.
        with self._log.open("ab") as log, self._out.open("wb") as out:
            self._process = OwnedProcess.start(self._command(), stdout=out, stderr=log, env=self._environment)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                self.said = await self._first_line(self._process)
        except TimeoutError:
            await self.stop()
            raise self._failed(f"The {self.name} was not ready within {READY_WITHIN_S:g} s.") from None
        except BaseException:
            await self.stop()
            raise

    async def keep(self, notice: Callable[[str], None], restarted: Callable[[], object]) -> None:
        """Start it again whenever it dies, until cancelled; `restarted` is called after each time."""
        while True:
            assert self._process is not None
            begun = time.monotonic()
            status = await self._process.wait()
            delay_s = self._restarts.died(time.monotonic() - begun)
            notice(f"The {self.name} ended with status {status}; starting it again in {delay_s:g} s.")
            while True:
                await asyncio.sleep(delay_s)
                try:
                    await self.start()
                    break
                except (ChildFailed, OSError) as error:
                    delay_s = self._restarts.died(0.0)
                    notice(f"{error} Trying again in {delay_s:g} s.")
            notice(f"The {self.name} is back (process {self.pid}).")
            restarted()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def _first_line(self, process: OwnedProcess) -> dict[str, Any]:
        while True:
            status = process.status
            for line in self._out.read_bytes().splitlines(keepends=True):
                if line.startswith(b"{") and line.endswith(b"\n"):
                    said = json.loads(line)
                    assert isinstance(said, dict)
                    return said
            if status is not None:
                raise self._failed(f"The {self.name} ended at its start with status {status}.")
            await asyncio.sleep(_POLL_S)

    def _failed(self, what: str) -> ChildFailed:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-_LINES_SHOWN:]
        end = "\n".join(lines)
        return ChildFailed(f"{what} The end of {self._log}:\n{end}\n" if end else what)
