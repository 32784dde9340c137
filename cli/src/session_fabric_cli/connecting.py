"""Options that commands on a running broker share, and how they find it."""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal

import typer
from session_fabric import Keys
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli.dev.places import find_running

Output = Literal["table", "json"]
PARTICIPANT: Final = "operator:fabricctl"
_KEYS: Final = "SESSION_FABRIC_ENCRYPTION_KEYS"

NatsOption = Annotated[
    str | None,
    typer.Option(
        "--nats",
        metavar="URL",
        envvar="SESSION_FABRIC_NATS",
        help="The broker. Default: that of a running `fabricctl dev`.",
        show_default=False,
    ),
]
TenantOption = Annotated[str, typer.Option("--tenant", envvar="SESSION_FABRIC_TENANT", help="Whose sessions.")]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How to print: a table for people or JSON for programs.")
]


def keys_given() -> Keys | None:
    """Return the tenants' keys that the environment names a file of. Raises `InvalidRequest`."""
    file = os.environ.get(_KEYS)
    return Keys.read(file) if file else None


def broker_url(nats: str | None) -> str:
    """Return the URL that was given, else that of a development server that runs."""
    if nats:
        return nats
    running = find_running()
    if running is None:
        raise InvalidRequest(
            "No broker was named, and no `fabricctl dev` runs on a default directory.",
            hint="Start `fabricctl dev`, or give --nats URL or SESSION_FABRIC_NATS.",
        )
    return running.nats
