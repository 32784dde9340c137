"""`fabricctl backup`: a tenant as a directory of files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from session_fabric import backup

from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import print_value
from session_fabric_cli.progress import progress

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The backup's directory.", show_default=False)]


@on_broker
async def create(options: Options, directory: Directory) -> None:
    """Write a tenant's sessions into files, and what it has beside them, while everything goes on."""
    async with opened(options) as fabric:
        with progress("writing") as shown:
            made = await backup.create(fabric, directory, lambda _: shown.advance())
    _say(options, made, f"Wrote {made.sessions} sessions of tenant {made.tenant} ({made.new} now) to {directory}.")


@on_broker
async def restore(options: Options, directory: Directory) -> None:
    """Make a backup's sessions again, in the tenant that --tenant names; again it changes nothing."""
    async with opened(options) as fabric:
        with progress("restoring") as shown:
            made = await backup.restore(fabric, directory, lambda _: shown.advance())
    _say(options, made, f"Tenant {made.tenant} has the backup's {made.sessions} sessions ({made.new} made now).")


def verify(directory: Directory) -> None:
    """Check every file of a backup; no broker is needed."""
    with progress("verifying") as shown:
        found = backup.verify(directory, lambda _: shown.advance())
    print(f"The backup of tenant {found.tenant} is whole: {found.sessions} sessions, {found.events} events.")


def _say(options: Options, made: backup.Backup, sentence: str) -> None:
    if options.output == "table":
        print(sentence)
    else:
        print_value(options.output, made._asdict())
