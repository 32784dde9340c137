"""Tables under a title, as the page about a session is made of them; lines where the terminal is too narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from session_fabric_cli.columns import Column, missing
from session_fabric_cli.printing import one_line

# An offset; longer names are folded where the terminal is narrow.
_LONGEST = 33
_INDENT = 2


def section(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table under its title, without columns in which nothing stands; nothing where there are no rows."""
    if not rows:
        return
    headed(console, title)
    told = [number for number in range(len(columns)) if any(row[number] not in ("", None) for row in rows)]
    cells = [[Text(one_line(str(row[number]), 200)) for number in told] for row in rows]
    print_cells(console, [columns[number] for number in told], cells)


def headed(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title.upper(), style="bold"))


def print_cells(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print rows below their headings; each cell on a line of its own where the terminal has no room for a table.

    The first cells are names: whoever reads them copies them into the next command.
    """
    names = max((row[0].cell_len for row in rows), default=0)
    made = [
        Column(heading, heading, [min(_LONGEST, row[number].cell_len) for row in rows], whole=number == 0)
        for number, heading in enumerate(columns)
    ]
    if missing(made, console.width - _INDENT):
        for row in rows:
            console.print(Padding(row[0].copy(), (0, 0, 0, _INDENT), expand=False))
            console.print(Padding(_facts(columns[1:], row[1:]), (0, 0, 0, 2 * _INDENT), expand=False))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, heading in enumerate(columns):
        table.add_column(heading, overflow="fold", min_width=None if number else min(_LONGEST, names))
    for row in rows:
        table.add_row(*row)
    console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))


def _facts(columns: Sequence[str], cells: Sequence[Text]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for heading, cell in zip(columns, cells, strict=True):
        if cell.plain:
            table.add_row(heading, cell)
    return table
