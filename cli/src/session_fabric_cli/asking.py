"""Asking before what cannot be taken back, and reading what was typed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(what: str, *, yes: bool, word: str | None = None) -> None:
    """Return when whoever sits at the terminal says yes, or has said so (`yes`).

    `what`: what will be done, a sentence without its end: "Erase session chat of tenant acme, for good". `word`: what
    must be typed, such as the name of what goes; else y is enough. Leaves with 1 when they do not. Raises
    `InvalidRequest` where nobody can be asked.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        from session_fabric.words.errors import InvalidRequest

        raise InvalidRequest(f"{what}: nobody can be asked, there is no terminal.", hint="Say --yes if it is meant.")
    with interruptible():
        print(f"{what}? " + (f"Type {word} to go on: " if word else "[y/N] "), end="", file=sys.stderr, flush=True)
        said = sys.stdin.readline().strip()
    if (said == word) if word else (said.lower() in ("y", "yes")):
        return
    print("Nothing was done.", file=sys.stderr)
    raise typer.Exit(1)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C end what waits for somebody to type, at once.

    asyncio would only note it until its loop comes round again: that is when something was typed.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
