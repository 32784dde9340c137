"""Which columns of a list a terminal has room for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

# What is no name may be folded down to this; between two columns are two blanks.
_LEAST: Final = 12
_BETWEEN: Final = 2


class Column(NamedTuple):
    """A column, and how wide each of its cells is. `whole`: they are copied into other commands, and not folded."""

    key: str
    heading: str
    cells: Sequence[int]
    whole: bool = False

    @property
    def widest(self) -> int:
        return max((len(self.heading), *self.cells))

    @property
    def least(self) -> int:
        heading = max(map(len, self.heading.split()))
        return max((heading, min(self.widest, _LEAST), *(self.cells if self.whole else ())))


def fitting(columns: Sequence[Column], spare: Sequence[str], width: int | None) -> list[Column]:
    """Return the columns to show: all where they fit, else without those that are empty, then without `spare`, the
    first one first, until they do. `width` None: there is room for all."""
    left = list(columns)
    empty = [one.key for one in columns if not any(one.cells)]
    for key in [*empty, *spare]:
        if width is None or _room(left, [one.least for one in left], width) >= 0:
            break
        left = [one for one in left if one.key != key]
    return left


def widths(columns: Sequence[Column], width: int | None) -> list[int]:
    """Return how wide each is shown: as wide as its cells where there is room, those on the left first; where there is
    none for the least of all, the widest give way, and are folded."""
    if width is None:
        return [one.widest for one in columns]
    found = [one.least for one in columns]
    room = _room(columns, found, width)
    for number, one in enumerate(columns):
        more = min(one.widest - found[number], max(0, room))
        found[number] += more
        room -= more
    while room < 0 and max(found) > 1:
        found[found.index(max(found))] -= 1
        room += 1
    return found


def missing(columns: Sequence[Column], width: int) -> int:
    """Return how many characters a table lacks to show the least of each column."""
    return max(0, -_room(columns, [one.least for one in columns], width))


def _room(columns: Sequence[Column], taken: Sequence[int], width: int) -> int:
    return width - sum(taken) - _BETWEEN * (len(columns) - 1)
