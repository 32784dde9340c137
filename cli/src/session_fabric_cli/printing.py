"""How things look: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import orjson

from session_fabric_cli.columns import Column, fitting, widths
from session_fabric_cli.options import Output

if TYPE_CHECKING:
    from rich.table import Table


def moment(ms: int) -> str:
    """Write milliseconds since 1970 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Write a length of time as people say it: 340ms, 12s, 5m, 3h, 9d."""
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f}ms"
    for unit, length, until in (("s", 1, 60), ("m", 60, 3600), ("h", 3600, 48 * 3600)):
        if round(seconds / length) * length < until:  # what is rounded up to an hour is 1h, not 60m
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def ago(since_ms: object, now: float) -> str:
    """Write for how long something has been, by when it began (ms since 1970; else nothing). `now`: in seconds."""
    return span(max(0.0, now - since_ms / 1000)) if isinstance(since_ms, int) else ""


def counted(count: int, one: str, many: str = "") -> str:
    """Write how many there are: 1 event, 2 events."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def size(count: float) -> str:
    """Write bytes as people say them: 512 B, 1.5 KiB, 20 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def one_line(text: str, limit: int = 120) -> str:
    """Cut a text to one line without control characters: what others wrote must not steer this terminal."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def print_rows(
    output: Output,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str] | Sequence[str],
    *,
    names: Sequence[str] = (),
    spare: Sequence[str] = (),
    empty: str = "",
) -> None:
    """Print a list: all of each row for programs, these columns of it for people.

    `columns`: keys of a row, with their headings where those are not the keys themselves. `names`: those whose cells
    are not folded, as they are copied into other commands, or are moments (default: the first). `spare`: those that a
    narrow terminal is shown without, the first one first. `empty` goes to stderr where people see no rows.
    """
    if output != "table":
        print_value(output, list(rows))
        return
    if not rows:
        print(empty or "There is nothing.", file=sys.stderr)
        return
    from rich.cells import cell_len
    from rich.table import Table

    headings = columns if isinstance(columns, Mapping) else {one: one for one in columns}
    texts = {key: [cell(row.get(key)) for row in rows] for key in headings}
    whole = names or tuple(headings)[:1]
    made = [
        Column(key, heading.upper().replace("_", " "), [cell_len(text) for text in texts[key]], key in whole)
        for key, heading in headings.items()
    ]
    width = terminal_width()
    chosen = fitting(made, spare, width)
    table = Table(box=None, pad_edge=False)
    for one, wide in zip(chosen, widths(chosen, width), strict=True):
        numbers = all(isinstance(row.get(one.key), int | float | None) for row in rows)
        table.add_column(one.heading, justify="right" if numbers else "left", overflow="fold", width=wide)
    for line in zip(*(texts[one.key] for one in chosen), strict=True):
        table.add_row(*line)
    print_table(table)


def print_facts(output: Output, facts: Mapping[str, Any], *, only: Sequence[str] = ()) -> None:
    """Print what is known of one thing, a line each for people; `only`: these alone for people, if there."""
    if output != "table":
        print_value(output, facts)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        if (not only or name in only) and value not in (None, "", [], {}):
            table.add_row(one_line(name.replace("_", " ")), cell(value))
    print_table(table)


def cell(value: object, limit: int = 120) -> str:
    """Write a value for people, in one line."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case str():
            return one_line(value, limit)
        case list() | tuple():
            return one_line(", ".join(cell(one) for one in value), limit)
        case dict():
            return one_line(" ".join(f"{key}={cell(one)}" for key, one in value.items()), limit)
    return one_line(str(value), limit)


def print_table(table: Table) -> None:
    """Print a table; whole when a program or a file reads it, as wide as the window for people."""
    from rich.console import Console

    Console(highlight=False, markup=False, width=terminal_width() or 10_000).print(table)


def terminal_width() -> int | None:
    """Return how many columns people have; None: a program or a file reads."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def print_value(output: Output, value: object) -> None:
    """Print a value for programs: JSON, or YAML."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    if output != "yaml":
        print(text.decode())
        return
    import yaml

    print(yaml.safe_dump(orjson.loads(text), sort_keys=False, allow_unicode=True), end="")
