"""Tables under a title, as the page about a session is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from session_fabric_cli.printing import one_line

# An offset; longer names are folded where the terminal is narrow.
_LONGEST = 33


def section(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table under its title, without columns in which nothing stands; nothing where there are no rows."""
    if not rows:
        return
    headed(console, title)
    told = [number for number in range(len(columns)) if any(row[number] not in ("", None) for row in rows)]
    table = table_of(*(columns[number] for number in told), names=[str(row[0]) for row in rows])
    for row in ([row[number] for number in told] for row in rows):
        table.add_row(*(Text(one_line(str(value), 200)) for value in row))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def headed(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title.upper(), style="bold"))


def table_of(*columns: str, names: Sequence[str]) -> Table:
    """Return a table; `names` are the first column's: whoever reads them copies them into the next command."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        least = min(_LONGEST, max(map(len, names), default=0)) if number == 0 else None
        table.add_column(column, overflow="fold", min_width=least)
    return table
