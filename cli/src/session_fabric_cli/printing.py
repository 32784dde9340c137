"""How things look on a terminal."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import orjson
from rich.console import Console
from rich.table import Table


def moment(ms: int) -> str:
    """Write milliseconds since 1970 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def one_line(text: str, limit: int = 120) -> str:
    """Cut a text to one line without control characters: what others wrote must not steer this terminal."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def print_table(table: Table) -> None:
    """Print a table; whole when a program or a file reads it, as wide as the window for people."""
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, markup=False, width=width).print(table)


def print_json(value: object) -> None:
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
