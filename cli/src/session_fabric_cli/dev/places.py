"""Where a development server keeps its things, and what it tells others about itself."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from session_fabric.new_files import write_own
from session_fabric.words.errors import DataDirectoryUnusable

from session_fabric_cli.replacing import replace_file

SECRET_NAME: Final = "secret"
STATE_NAME: Final = "dev.json"
# How many servers on default directories may run beside each other before one has to say `--data`.
MAX_NUMBERED: Final = 50


class Running(BaseModel):
    """What `fabricctl dev --json` prints, and what `dev.json` in the data directory holds while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    ws: str
    nats: str
    nats_credentials: str
    token: str
    operator_token: str
    data: str
    pid: int
    broker_pid: int
    gateway_pid: int
    agent_pid: int | None


def home() -> Path:
    """Return the per-user directory that holds the default data directories (XDG base directories)."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "session-fabric"


def default_directories() -> list[Path]:
    """Return the data directories to try when none was named: `dev`, `dev-2`, `dev-3` and so on."""
    return [home() / ("dev" if n == 1 else f"dev-{n}") for n in range(1, MAX_NUMBERED + 1)]


def secret_file(data: Path) -> Path:
    """Return the file with the secret that signs development tokens; made at first use, for its owner only."""
    path = data / SECRET_NAME
    try:
        write_own(path, secrets.token_hex(32), 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise _unusable(data, error) from error
    return path


def announce(data: Path, running: Running) -> None:
    """Write `dev.json` whole or not at all; it holds a token, so it is for its owner only."""
    try:
        replace_file(data / STATE_NAME, f"{running.model_dump_json()}\n".encode())
    except OSError as error:
        raise _unusable(data, error) from error


def _unusable(data: Path, error: OSError) -> DataDirectoryUnusable:
    return DataDirectoryUnusable(
        f"The data directory {str(data)!r} cannot be used: {error.strerror}.", directory=str(data)
    )


def withdraw(data: Path) -> None:
    (data / STATE_NAME).unlink(missing_ok=True)


def find_running(directories: list[Path] | None = None, *, at: str | None = None) -> Running | None:
    """Return the first development server that still runs, of the default directories or of those given.

    `at`: the one whose broker has this URL.
    """
    for data in directories or default_directories():
        try:
            running = Running.model_validate_json((data / STATE_NAME).read_bytes())
            os.kill(running.pid, 0)
        except (OSError, ValidationError):
            continue
        if at in (None, running.nats):
            return running
    return None
