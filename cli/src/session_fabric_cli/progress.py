"""How far long work is: on stderr, and only where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """`advance` it as work is done; `of` says how much there is when that becomes known."""

    def advance(self, by: int = 1) -> None: ...

    def of(self, total: int) -> None: ...

    def now(self, what: str) -> None:
        """Say what is being done, in place of what was said before."""


class _Silent:
    def advance(self, by: int = 1) -> None: ...

    def of(self, total: int) -> None: ...

    def now(self, what: str) -> None: ...


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Progress]:
    """Show how far the work in this block is. Nothing is shown where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    with Bar(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        class Shown:
            def advance(self, by: int = 1) -> None:
                bar.advance(task, by)

            def of(self, total: int) -> None:
                bar.update(task, total=total)

            def now(self, what: str) -> None:
                bar.update(task, description=what)

        yield Shown()
