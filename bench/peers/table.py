"""The tables of a run, for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.peers.results import OURS, SHOWN, Results, compare, measured_by, said


def cells(results: Results) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield for each row its title and, for each peer, what was found and how ours stands to that."""
    ours = results.peers.get(OURS)
    for row, shown in SHOWN.items():
        line = []
        for name, found in results.peers.items():
            against = ""
            if name != OURS and ours is not None and row in ours.samples and row in found.samples:
                compared = compare(row, ours.samples[row], found.samples[row])
                against = "tie" if compared.tie else _times(compared.ratio)
            line.append((said(found, row), against))
        if any(row in found.samples for found in results.peers.values()):
            yield shown.title, line


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} x" if ratio >= 10 else f"{ratio:.2g} x"


def show(results: Results) -> None:
    """Print it: figures with their spread, and under each how many times better ours is."""
    table = Table(title="Session Fabric and others, one run; under each: how many times better ours is")
    table.add_column("row")
    for name in results.peers:
        table.add_column(name, justify="right")
    for title, line in cells(results):
        table.add_row(title, *(f"{figure}\n{against}" if against else figure for figure, against in line))
    console = Console(width=200)
    console.print(table)
    for note in notes(results):
        console.print(note, highlight=False, markup=False)


def notes(results: Results) -> Iterator[str]:
    """Yield what a reader has to know: machine, versions, what is missing, cannot be, failed, or needs a word."""
    yield f"{results.date}; {results.machine}; rounds: {results.rounds}{' (quick: no result)' if results.quick else ''}"
    for found in results.peers.values():
        if found.missing:
            yield f"{found.title} is not measured: {found.missing}"
        else:
            yield f"{found.title}: {found.version}; keeps: {found.keeps}"
    for name, why in results.not_measured.items():
        yield f"{name}: not measured: {why}"
    for found in results.peers.values():
        titles = {measured_by(row): SHOWN[row].title for row in reversed(list(SHOWN))}
        for row, note in found.notes.items():
            yield f"* {found.title}, {SHOWN[row].title}: {note}"
        for row, fault in found.faults.items():
            yield f"failed: {found.title}, {titles.get(row, row)}: {fault}"
