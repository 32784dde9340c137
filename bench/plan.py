"""How thorough a run is."""

from __future__ import annotations

from typing import NamedTuple


class Plan(NamedTuple):
    """`rounds` of each row, both sides in turn; `quick` takes a fraction of the load: a look, and no result."""

    rounds: int = 3
    quick: bool = False

    def scaled(self, number: int, by: int = 5) -> int:
        return max(1, number // by) if self.quick else number
