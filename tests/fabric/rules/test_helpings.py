"""How much a reader gets at a time."""

from __future__ import annotations

from session_fabric.rules.helpings import FEW, MANY, Helpings


def test_who_reads_on_at_once_gets_many_at_a_time() -> None:
    helpings = Helpings()
    assert helpings.most == FEW
    helpings.eaten(0.001)
    assert helpings.most == MANY > FEW


def test_who_is_held_back_gets_few_until_it_reads_on_at_once_again() -> None:
    helpings = Helpings()
    helpings.eaten(0.001)
    helpings.eaten(0.05)
    assert helpings.most == FEW
    helpings.eaten(0.001)
    assert helpings.most == MANY
