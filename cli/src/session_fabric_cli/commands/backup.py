"""`fabricctl backup`: a tenant as a directory of files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from session_fabric import backup
from session_fabric.words.errors import SessionExists, StreamExists

from session_fabric_cli.failing import FAILED, say
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, Output, OutputOption, on_broker
from session_fabric_cli.printing import counted, print_value
from session_fabric_cli.progress import progress

# Of so many that stood in the way the names are told.
_NAMED: Final = 20
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The backup's directory.", show_default=False)]


@on_broker
async def create(options: Options, directory: Directory) -> None:
    """Write a tenant's sessions and durable streams into files, and what it has beside them, while all goes on."""
    async with opened(options) as fabric:
        with progress("writing") as shown:
            made = await backup.create(fabric, directory, lambda _: shown.advance())
    _say(options.output, made, f"Wrote {_what(made)} of tenant {made.tenant} ({made.new} now) to {directory}.")


@on_broker
async def restore(
    options: Options,
    directory: Directory,
    others: Annotated[
        bool, typer.Option("--others", help="Leave alone those that are there already, and restore all others.")
    ] = False,
) -> None:
    """Make a backup's sessions and streams again, in the tenant that --tenant names; again it changes nothing."""
    there: list[str] = []
    async with opened(options) as fabric:
        with progress("restoring") as shown:
            try:
                made = await backup.restore(
                    fabric, directory, lambda _: shown.advance(), others=there.append if others else None
                )
            except (SessionExists, StreamExists) as error:  # an import's own advice is an option that is not here
                hint = "Restore all others with --others, or into a tenant that has none of that name: --tenant NAME."
                raise type(error)(error.message, hint=hint) from error
    sentence = f"Tenant {made.tenant} has the backup's {_what(made)} ({made.new} made now)."
    if there:
        more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
        say(f"{counted(len(there), 'was', 'were')} there already, and left alone: {', '.join(there[:_NAMED])}{more}.")
        sentence = f"Of the backup's {_what(made)} {made.new} were made now in tenant {made.tenant}."
    _say(options.output, made, sentence)
    if there:
        raise typer.Exit(FAILED)


def verify(directory: Directory, output: OutputOption = None) -> None:
    """Check every file of a backup; no broker is needed."""
    with progress("verifying") as shown:
        found = backup.verify(directory, lambda _: shown.advance())
    whole = f"{counted(found.sessions, 'session')}, {counted(found.events, 'event')}"
    if found.streams:
        whole += f"; {counted(found.streams, 'durable stream')}, {counted(found.entries, 'entry', 'entries')}"
    if found.subscriptions:
        whole += f"; {counted(found.subscriptions, 'subscription')}"
    _say(output or "table", found, f"The backup of tenant {found.tenant} is whole: {whole}.")


def _what(made: backup.Backup) -> str:
    streams = f" and {counted(made.streams, 'durable stream')}" if made.streams else ""
    return f"{counted(made.sessions, 'session')}{streams}"


def _say(output: Output, made: backup.Backup, sentence: str) -> None:
    """Print what was done. Leaves with 1 where subscriptions cannot be read, and names them."""
    if output == "table":
        print(sentence)
    else:
        print_value(output, made._asdict())
    if made.unreadable:
        say(
            f"Subscriptions on streams that cannot be read: {', '.join(f'{name!r:.100}' for name in made.unreadable)}.",
            "A later version has written them, or somebody else. The backup has their bytes: `backup restore` of that "
            "version makes them. Who needs them no more deletes them and makes a backup anew.",
        )
        raise typer.Exit(FAILED)
