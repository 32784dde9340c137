"""What is waited for, by when it is due. Pure: `now` comes in."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Timetable(Generic[T]):
    """Things in slots of time: to enter one or to strike it out costs the same however many there are, and who asks
    which are late looks at those alone."""

    def __init__(self, slot_s: float) -> None:
        self._slots_per_s = 1 / slot_s
        self._slots: dict[int, set[T]] = {}

    def __len__(self) -> int:
        return sum(len(things) for things in self._slots.values())

    def enter(self, thing: T, due: float) -> int:
        """Enter a thing; return the slot that it is in. It is late up to `slot_s` after `due`, and never before."""
        number = int(due * self._slots_per_s) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
        slot.add(thing)
        return number

    def strike(self, thing: T, slot: int) -> None:
        """Take a thing out that is not waited for any more; one that was late is out already."""
        things = self._slots.get(slot)
        if things is not None:
            things.discard(thing)

    def late(self, now: float) -> list[T]:
        """Return what is late, and take it out."""
        # As many slots as the longest wait has, whatever is in them: a few hundred numbers.
        passed = sorted(number for number in self._slots if number <= now * self._slots_per_s)
        return [thing for number in passed for thing in self._slots.pop(number)]
