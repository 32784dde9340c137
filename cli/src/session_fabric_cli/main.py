"""`fabricctl`: the one place where the command line is put together and errors become sentences."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from session_fabric_cli import failing
from session_fabric_cli.ending import Ending
from session_fabric_cli.loading import Group, group
from session_fabric_cli.tree import ROOT


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("session-fabric-cli"))
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)]


def _root(version: VersionOption = False) -> None:
    """Has the options of fabricctl itself."""


def _within() -> None:
    """Run in somebody's process: what it does with logs is its own affair."""


def _alone() -> None:
    from session_fabric import logs

    logs.to_stderr("error", logs.form_of())


def command_line(before: Callable[[], None] = _within) -> Group:
    """Return all of fabricctl, as typer has it. `before` is called before a command is loaded."""
    return group("fabricctl", ROOT, _root, before)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Spell what an encoding lacks as JSON does, so that JSON stays what it is."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


def _tellable() -> None:
    """Let everything be printed, whatever the locale of the terminal or the pipe can spell."""
    codecs.register_error("fabricctl", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="fabricctl")


def _opened() -> None:
    """Have all three standard streams, as one that began without some does not (`>&-`, some supervisors): what is
    printed goes nowhere then, and never into a file or a socket that gets the number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def main() -> None:
    """Run the command line as a process; leave with what `failing` says."""
    _opened()
    _tellable()
    ending = Ending()
    status = run(sys.argv[1:], _alone)
    sys.exit(ending.status if status == failing.INTERRUPTED else status)


def _print_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str], before: Callable[[], None] = _within) -> int:
    if os.environ.get("_FABRICCTL_COMPLETE"):
        from typer.completion import completion_init  # type: ignore[attr-defined]  # not listed, and theirs

        completion_init()  # typer does it for applications alone that have its own option --install-completion
    try:
        status = command_line(before)(arguments, prog_name="fabricctl")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else failing.FAILED
    except KeyboardInterrupt:
        return failing.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has what it wanted (`| head`); the interpreter must not try to flush again.
        _print_nowhere()
        return failing.FAILED
    except Exception as error:
        failed = failing.failed(error)
        if failed is not None:
            if isinstance(error, OSError) and error.filename is None:
                _print_nowhere()
            return failed
        if os.environ.get("SESSION_FABRIC_DEBUG"):
            raise
        failing.say(
            f"{type(error).__name__}: {error}", "This is a defect of fabricctl. SESSION_FABRIC_DEBUG=1 shows where."
        )
        return failing.FAILED
    return status if isinstance(status, int) else failing.DONE
