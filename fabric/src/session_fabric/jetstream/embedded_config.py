"""What the embedded nats-server is told, and where it is found."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

from session_fabric.jetstream.server_config import ACCOUNT, Door, door_config, quoted
from session_fabric.words.errors import BrokerMissing, InvalidRequest, PortBusy

LOG_NAME: Final = "nats-server.log"
MAX_PAYLOAD: Final = "1MB"
# The account of a server without accounts, which earlier versions kept their data in.
_FORMER_ACCOUNT: Final = "$G"
INSTALL: Final = "Install it with: pip install 'session-fabric[embedded]'"
OTHER_PORT: Final = "Choose another port, or 0 for a free one."


def find_server() -> Path:
    """Return the nats-server to run: the wheel's, beside this interpreter, else one on the PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise BrokerMissing("There is no nats-server on this machine.", hint=INSTALL)
    return Path(found)


def keep_former_data(store: Path) -> None:
    """Move what a version without accounts has stored to where the account looks for it."""
    former, now = store / "jetstream" / _FORMER_ACCOUNT, store / "jetstream" / ACCOUNT
    if former.is_dir() and not now.exists():
        former.rename(now)


def server_config(directory: Path, host: str, port: int, websocket_port: int | None, door: Door) -> str:
    lines = [
        'server_name: "session-fabric-embedded"',
        f"host: {quoted(host)}",
        f"port: {port or -1}",
        f"ports_file_dir: {quoted(directory)}",
        f"log_file: {quoted(directory / LOG_NAME)}",
        "logfile_size_limit: 10MB",
        "logfile_max_num: 3",
        f"max_payload: {MAX_PAYLOAD}",
        f"jetstream {{ store_dir: {quoted(directory)} }}",
        *door_config(door),
    ]
    if websocket_port is not None:
        lines.append(f"websocket {{ host: {quoted(host)}, port: {websocket_port or -1}, no_tls: true }}")
    return "\n".join(lines) + "\n"


def check_port(host: str, port: int | None) -> None:
    if not port:
        return
    if not 0 < port < 65536:
        raise InvalidRequest(f"{port} is not a port.", hint=OTHER_PORT, port=port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"Port {port} of {host} is in use."
            else:
                message = f"Port {port} of {host} cannot be opened: {error.strerror or error}."
            raise PortBusy(message, hint=OTHER_PORT, host=host, port=port) from error


def reachable(url: str, host: str) -> str:
    """Put the host to connect to into a URL that the server reported: a wildcard is reached over loopback."""
    scheme, _, rest = url.partition("://")
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{name}:{rest.rpartition(':')[2]}"
