"""`python -m bench.peers.report`: put the last run's tables into docs/benchmarks.md, and draw its charts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.peers.results import OURS, Results, from_json
from bench.peers.table import cells, notes

_DOCS: Final = Path(__file__).parent.parent.parent / "docs"
RESULTS: Final = _DOCS / "peers" / "results.json"
_PAGE: Final = _DOCS / "benchmarks.md"
BEGIN: Final = "<!-- what follows is written by a program -->"
END: Final = "<!-- end of what is written -->"
CHARTS: Final = ("throughput", "time", "cost")


def markdown(results: Results) -> str:
    """Return the tables and what is to be known of them."""
    return "\n".join(_lines(results))


def _lines(results: Results) -> Iterator[str]:
    names = [name for name, found in results.peers.items() if not found.missing]
    yield f"| row | {' | '.join(f'`{name}`' for name in names)} |"
    yield "|---|" + "---|" * len(names)
    kept = [number for number, found in enumerate(results.peers.values()) if not found.missing]
    for title, line in cells(results):
        figures = (line[number] for number in kept)
        yield f"| {title} | {' | '.join(f'{said}<br>{against}' if against else said for said, against in figures)} |"
    yield ""
    yield (
        f"In the second line of a cell is how many times better `{OURS}` is: below 1 it is worse; `tie` where the "
        "ranges of the rounds overlap. Behind a figure is half of the rounds' spread; `*` has a note."
    )
    yield ""
    yield from (f"- {note.removeprefix('* ')}" for note in notes(results))
    for chart in CHARTS:
        yield ""
        yield f"![{chart}](peers/{chart}.svg)"


def put(page: str, written: str) -> str:
    """Return the page with what is between its marks replaced. Raises `ValueError` where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no place for it: between {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.peers.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, help="%(default)s")
    options = parser.parse_args(arguments)
    from bench.peers.charts import draw  # needs matplotlib, which `make bench-peers` installs

    results = from_json(options.results.read_text())
    draw(results, _PAGE.parent / "peers")
    _PAGE.write_text(put(_PAGE.read_text(), markdown(results)))
    print(f"{_PAGE} has the figures of {options.results}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
