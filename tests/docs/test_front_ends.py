"""docs/frameworks.md: each cell is held by a test that exists; the page says what the data says; a run prints it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from tests.docs.front_ends import AGENTS, CAPABILITIES, MATRIX, NOTES, Cell
from tests.docs.pages import ROOT, page, rows
from tests.frameworks.test_matrix import MODULES, table
from tests.support.printing import PRINTED

_PAGE = page("docs/frameworks.md")
_HELD = sorted({test for cells in MATRIX.values() for cell in cells for test in cell.tests})


def front_ends() -> list[list[str]]:
    """Return the first table, its notes as numbers."""
    numbers = {note: number for number, note in enumerate(NOTES, 1)}

    def said(cell: Cell) -> str:
        return cell.says if cell.note is None else f"{cell.says} ({numbers[cell.note]})"

    return [["", *CAPABILITIES], *([name, *map(said, cells)] for name, cells in MATRIX.items())]


def agents() -> list[list[str]]:
    """Return the second table: what of the guide's stands here, turned."""
    _, *guide = table()
    said = {name: cells for name, *cells in guide}
    return [["", *AGENTS], *([one, *(said[row][at] for row in AGENTS.values())] for at, one in enumerate(MODULES))]


def test_the_page_says_what_the_data_says() -> None:
    assert rows(_PAGE) == [*front_ends(), *agents()]
    assert re.findall(r"^\d+\. (.+)$", _PAGE, re.MULTILINE) == list(NOTES.values())


def test_every_cell_is_held_by_a_test_and_says_why_it_is_no_plain_yes() -> None:
    for name, cells in MATRIX.items():
        assert len(cells) == len(CAPABILITIES), name
        for cell in cells:
            assert cell.tests, name
            assert cell.note is not None or cell.says.startswith("yes"), f"{name}: {cell.says}"
    assert {cell.note for cells in MATRIX.values() for cell in cells} - {None} == set(NOTES)


@pytest.mark.parametrize("test", _HELD)
def test_what_holds_a_cell_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    path = ROOT / file if file.startswith("clients/") else ROOT / "tests" / file
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), test
    else:
        titles = re.findall(r"""\btest(?:\.each\(.*?\))?\((["'`])(.+?)\1""", text)
        assert any(name in title for _, title in titles), test


def test_the_matrix_is_printed(record_property: Callable[[str, object], None]) -> None:
    notes = [f"({number}) {note}" for number, note in enumerate(NOTES.values(), 1)]
    record_property(PRINTED, "\n".join([*_lines(front_ends()), "", *_lines(agents()), "", *notes]))


def _lines(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
