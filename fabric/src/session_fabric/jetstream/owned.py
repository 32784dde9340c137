"""A child process that ends with us, whatever ends us. POSIX only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

_POLL_S: Final = 0.01
STOP_WITHIN_S: Final = 10.0

# Runs beside the child and outlives us: told the child's pid on stdin, it waits there for "done" or for the
# end of the file, which the kernel brings when we die in whatever way. Linux has PR_SET_PDEATHSIG for this,
# but that follows the thread that forked and not the process, and macOS has nothing.
_WATCHDOG: Final = """
read -r pid || exit 0
read -r word
[ "$word" = done ] && exit 0
kill -s TERM "$pid" 2>/dev/null
n=0
while [ $n -lt 100 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
kill -s KILL -- "-$pid" 2>/dev/null
"""


class OwnedProcess:
    """A running child with a process group of its own: Ctrl-C in a terminal is for us, not for it.

    When we die it gets SIGTERM, and its whole group SIGKILL ten seconds later.
    """

    def __init__(self, process: subprocess.Popen[bytes], watchdog: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._watchdog = watchdog

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | int,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> OwnedProcess:
        """Start the command with an empty stdin; raise `OSError` when it cannot be."""
        # The watchdog first, so that no moment is left in which the child has none.
        watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=env,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        except BaseException:
            _dismiss(watchdog)
            raise
        assert watchdog.stdin is not None
        watchdog.stdin.write(b"%d\n" % process.pid)
        watchdog.stdin.flush()
        return cls(process, watchdog)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        return self._process.stdout

    @property
    def status(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs. What it left of its group is killed."""
        if self._process.returncode is None and self._process.poll() is not None:
            self._kill_group()  # at once, before its number can belong to somebody else
        return self._process.returncode

    async def wait(self) -> int:
        """Return the exit status when it has ended."""
        while (status := self.status) is None:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(_POLL_S)
        return status

    async def stop(self, timeout_s: float = STOP_WITHIN_S) -> None:
        """Ask it to end; kill it after `timeout_s`. Harmless when repeated; cancelled: killed at once."""
        try:
            if self.status is None:
                self._process.terminate()
            deadline = time.monotonic() + timeout_s
            while self.status is None and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and what is left of its group at once."""
        if self.status is None:
            self._kill_group()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        _dismiss(self._watchdog)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _dismiss(watchdog: subprocess.Popen[bytes]) -> None:
    """Tell the watchdog that there is nothing to watch, and wait for its end."""
    if watchdog.stdin is not None and not watchdog.stdin.closed:
        with contextlib.suppress(OSError):
            watchdog.stdin.write(b"done\n")
            watchdog.stdin.flush()
        with contextlib.suppress(OSError):
            watchdog.stdin.close()
    watchdog.wait()
