"""Where a reader of a run stands, as the id of an event: where in the log, and how much it was told of what is open.

What a log keeps of an answer changes when the answer is whole: its pieces go, and one event holds the whole text. An
offset alone would not say how much of that text a reader has had.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final, NamedTuple

from session_fabric.words.errors import InvalidOffset
from session_fabric.words.names import is_id
from session_fabric.words.positions import Offset

from session_fabric_gateway.dialects.telling import Part

_LETTERS: Final[Mapping[Part, str]] = {"text": "t", "reasoning": "r", "args": "a"}
_PARTS: Final[Mapping[str, Part]] = {letter: part for part, letter in _LETTERS.items()}
_MOST_OPEN: Final = 200
_MOST_DIGITS: Final = 15

Units = Mapping[tuple[str, Part], int]


class Place(NamedTuple):
    """Everything before `offset` was told, and `offset` itself if `whole`.

    `units`: how much (UTF-16 code units) of each text that is not whole yet, by message or call; `open` are those that
    the reader waits for more of. `number` tells the places within one event of the log from each other.
    """

    offset: Offset
    whole: bool
    units: Units
    number: int = 0
    open: Set[tuple[str, Part]] = frozenset()

    def spell(self) -> str:
        head = str(self.offset) if self.whole else f"{self.offset}.{self.number}"
        return ",".join((head, *(f"{self._letter(key)}{units}:{key[0]}" for key, units in self.units.items())))

    def _letter(self, key: tuple[str, Part]) -> str:
        letter = _LETTERS[key[1]]
        return letter.upper() if key in self.open else letter


def read_place(text: str) -> Place:
    """Read what `spell` has spelled. Raises `InvalidOffset`."""
    head, *said = text.split(",")
    offset, dot, number = head.partition(".")
    if len(said) > _MOST_OPEN or (dot and not _is_number(number)):
        raise _wrong(text)
    units: dict[tuple[str, Part], int] = {}
    open: set[tuple[str, Part]] = set()
    for one in said:
        part = _PARTS.get(one[:1].lower())
        count, colon, of = one[1:].partition(":")
        if part is None or not colon or not _is_number(count) or not is_id(of):
            raise _wrong(text)
        units[of, part] = int(count)
        if one[:1].isupper():
            open.add((of, part))
    return Place(Offset.parse(offset), not dot, units, int(number or 0), frozenset(open))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _wrong(text: str) -> InvalidOffset:
    return InvalidOffset(f"{text!r:.120} is no place in a run.", hint="Use the id of an event that you were sent.")
