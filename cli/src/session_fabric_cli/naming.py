"""Names that are none, and those that were perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from session_fabric.words.errors import Refused

_MOST: Final = 3


class NothingSuch(Refused):
    """What was named is not there. `fabricctl` leaves with 3."""

    code = "not_found"


def near(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that were perhaps meant: at most three, the nearest first."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=_MOST, cutoff=0.6)
    begun = sorted(one for one in names if one.startswith(name) and one not in close)
    return [*close, *begun][:_MOST]


def nothing_such(what: str, name: str, names: Iterable[str], *, listed_by: str, place: str = "") -> NothingSuch:
    """Return the error that says so: with near names, and the command that lists all.

    `what`: as in `no context`: `"context"`. `place`: where it was looked for, such as `in session s1`. `listed_by`:
    such as `fabricctl context ls`.
    """
    meant = near(name, names)
    hint = f"Did you mean {' or '.join(meant)}? " if meant else ""
    said = " ".join(filter(None, [what, f"{name!r:.80}", place]))
    return NothingSuch(f"There is no {said}.", hint=f"{hint}`{listed_by}` lists them.")
