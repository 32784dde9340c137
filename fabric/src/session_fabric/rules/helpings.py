"""How many stored events are asked for at a time. A rule: no I/O.

While the broker answers, nothing is stored in the same stream; while an answer is taken in, nobody is sent anything:
a millisecond a hundred events, each. So many are asked for only of who wants more as soon as it has what there is.
"""

from __future__ import annotations

from typing import Final

FEW: Final = 64
# Twice as many would be read a sixth sooner, by the thousand, where nobody else wants anything.
MANY: Final = 128
# Nobody spells a batch of `MANY` for so long. Who comes back later than that was held back, by a rate or by a socket
# that takes no more, and is not held back by small batches too.
_HELD_BACK_S: Final = 0.01


class Helpings:
    """The batches of one read: first of a few, which is all that most have missed."""

    def __init__(self) -> None:
        self.most = FEW

    def eaten(self, took_s: float) -> None:
        """The reader comes back for more, so long after it was given what there was."""
        self.most = FEW if took_s >= _HELD_BACK_S else MANY
