"""A data directory belongs to one broker at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

from session_fabric.words.errors import DataDirectoryInUse, DataDirectoryUnusable

LOCK_NAME = "broker.lock"

# A holder that was killed leaves its server to end by itself: it takes a moment until the lock is free.
_GRACE_HOLDER_ALIVE_S = 0.5
_GRACE_HOLDER_GONE_S = 15.0
_POLL_S = 0.02


class DirectoryLock:
    """An flock on `<directory>/broker.lock`.

    The lock belongs to the open file, not to a process: hand `fileno()` to the server, and the directory
    stays locked until both its starter and the server are gone. The kernel releases it after a kill -9 too.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    async def take(cls, directory: Path) -> DirectoryLock:
        """Make the directory if need be and lock it.

        Raises `DataDirectoryUnusable` when it cannot be written, `DataDirectoryInUse` when another has it.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - once, at the start
            fd = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(directory, error) from error
        try:
            await cls._lock(fd, directory)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(fd)
            raise unusable(directory, error) from error
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    @staticmethod
    async def _lock(fd: int, directory: Path) -> None:
        begun = time.monotonic()
        while True:
            try:
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(fd)
            grace_s = _GRACE_HOLDER_ALIVE_S if _alive(holder) else _GRACE_HOLDER_GONE_S
            if time.monotonic() - begun >= grace_s:
                raise DataDirectoryInUse(
                    f"The data directory {str(directory)!r} is in use by process {holder or 'unknown'}.",
                    hint="Stop that process, or choose another directory.",
                    directory=str(directory),
                    pid=holder,
                )
            await asyncio.sleep(_POLL_S)

    def fileno(self) -> int:
        return self._fd

    def release(self) -> None:
        """Unlock for everybody who inherited the file; harmless when repeated."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = -1


def unusable(directory: Path, error: OSError) -> DataDirectoryUnusable:
    return DataDirectoryUnusable(
        f"The data directory {str(directory)!r} cannot be used: {error.strerror or error}.",
        hint="Choose a directory that this user can write to.",
        directory=str(directory),
    )


def _holder(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
