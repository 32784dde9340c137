"""Options that commands on a running broker share, and how they find it."""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal, NamedTuple

import typer
from session_fabric import Credentials, Keys
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


class Reached(NamedTuple):
    """A broker, and how to introduce oneself there; None: as the environment says, or not at all."""

    url: str
    credentials: Credentials | None


def broker_at(nats: str | None) -> Reached:
    """Return the broker that was named, else that of a development server that runs.

    The credentials of one that runs are known. Raises `InvalidRequest`.
    """
    credentials = Credentials.of_environment()
    running = find_running(at=nats)
    if running is None and not nats:
        raise InvalidRequest(
            "No broker was named, and no `fabricctl dev` runs on a default directory.",
            hint="Start `fabricctl dev`, or give --nats URL or SESSION_FABRIC_NATS.",
        )
    if running is not None and credentials is None:
        credentials = Credentials.read(running.nats_credentials)
    return Reached(nats or running.nats if running else str(nats), credentials)
