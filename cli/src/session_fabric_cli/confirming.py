"""Asking before what cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from session_fabric.words.errors import InvalidRequest

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: for scripts.")]


def confirm(question: str, yes: bool) -> None:
    """Return when the answer is yes; leave with 1 when it is not. Raises `InvalidRequest` where nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{question} Nobody is at this terminal to say so.", hint="Give --yes.")
    typer.confirm(question, abort=True, err=True)
