"""Starts a browser's stand-in on the TypeScript client: Node takes the place of the process that was forked for it."""

from __future__ import annotations

import os
import shutil
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import orjson

from tests.fault.browser import token_for
from tests.fault.process import Start, prepare

_PAGE: Final = Path(__file__).parent / "node" / "page.mjs"
CLIENT: Final = Path(__file__).parents[2] / "clients" / "typescript" / "dist" / "index.js"
# Where node/pipe.mjs has it.
_PIPE: Final = 3


def node() -> str:
    """Return where Node is. Raises `FileNotFoundError` with what to do where it or the built client is missing."""
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    if (found := shutil.which("node", path=places)) is None:
        raise FileNotFoundError("Node 20 or newer is needed for the TypeScript client: https://nodejs.org")
    if not CLIENT.exists():
        raise FileNotFoundError("The TypeScript client is not built: make clients/typescript/dist/index.js")
    return found


def open_page(start: Start, offset_s: Any, pipe: Connection) -> None:
    """Be that process, to its end. Its clock is stepped by what it is told, not by `offset_s`."""
    prepare(start, offset_s)
    participant = f"user:{start.host}"
    given = {
        "who": start.who,
        "host": start.host,
        "participant": participant,
        "directory": str(start.directory),
        "sessions": start.sessions,
        "url": f"http://127.0.0.1:{start.port}",
        "token": token_for(participant, start.secret),
    }
    os.dup2(pipe.fileno(), _PIPE)
    os.set_inheritable(_PIPE, True)  # which `dup2` leaves as it was where it is that one already
    program = node()
    flags = ["--experimental-websocket", "--no-warnings"]
    os.execv(program, [program, *flags, str(_PAGE), orjson.dumps(given).decode()])
