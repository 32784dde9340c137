"""`fabricctl`: the one place where the command line is put together and errors become sentences."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer
from session_fabric.words.errors import FabricError, InvalidInput

from session_fabric_cli import __version__, logs
from session_fabric_cli.commands import agents, broker, dev, sessions, streams, tenants, tokens

FAILED = 1
USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="fabricctl",
    help="Develop with, look into and mend Session Fabric.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors and help as plain lines: they are piped and quoted
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("dev")(dev.dev)
app.add_typer(sessions.app, name="session", help="List, show and follow sessions.")
app.add_typer(tokens.app, name="token", help="Make, read and revoke tokens, and the keys that sign them.")
app.add_typer(agents.app, name="agent", help="Credentials of agents that come to the broker themselves.")
app.add_typer(
    broker.app, name="broker", help="What a nats-server is told so that it lets in only whom the fabric knows."
)
app.add_typer(streams.app, name="stream", help="Make, look over, mend and divide the broker's streams.")
app.add_typer(tenants.app, name="tenant", help="What belongs to one tenant.")


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; leave with 0, 1 (it failed), 2 (it was called wrongly) or 130 (Ctrl-C)."""
    logs.to_stderr(logging.ERROR)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    try:
        status = app(arguments, prog_name="fabricctl")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except FabricError as error:
        return _failed(error.message, error.hint, USAGE if isinstance(error, InvalidInput) else FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has what it wanted (`| head`); the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if os.environ.get("SESSION_FABRIC_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        return _failed(what, "This is a defect of fabricctl. SESSION_FABRIC_DEBUG=1 shows where.", FAILED)
    return status if isinstance(status, int) else 0


def _failed(message: str, hint: str, status: int) -> int:
    print(f"fabricctl: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    return status
