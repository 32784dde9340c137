"""Where sessions' segments begin, as the relay has lately said. A rule: no I/O."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from session_fabric.ports import Home
from session_fabric.rules.layout import LEASE_S
from session_fabric.words.subjects import Place

_MOST: Final = 20_000


class Homes:
    """What was said counts for as long as the layout does for those who know it themselves.

    A move changes it for no session that there is: who makes one has to ask.
    """

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self._lease_s = lease_s
        self._kept: OrderedDict[Place, tuple[Home, float]] = OrderedDict()

    def keep(self, place: Place, home: Home, asked: float) -> None:
        """Keep what was answered to a question of then."""
        self._kept[place] = (home, asked)
        self._kept.move_to_end(place)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    def at_hand(self, place: Place, now: float) -> Home | None:
        """Return what still counts; None: it has to be asked for."""
        home, asked = self._kept.get(place, (None, 0.0))
        return home if now - asked < self._lease_s else None

    def forget(self) -> None:
        self._kept.clear()
