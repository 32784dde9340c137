"""Legal holds: while one stands, nothing of what it is on is removed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict

from session_fabric.words.errors import HoldNotFound, InvalidRequest, LimitExceeded, SessionHeld

DEFAULT_NAME: Final = "hold"
MOST_HOLDS: Final = 50
MOST_REASON: Final = 1000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class Hold(BaseModel):
    """Why nothing may be removed, since when (milliseconds since 1970) and who said so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    reason: str
    by: str
    since: int


Holds = tuple[Hold, ...]


def placed(holds: Holds, hold: Hold) -> Holds:
    """Return the holds with one more; of a name that stands already the first stays. Raises `InvalidRequest`."""
    check_name(hold.name)
    if not hold.reason.strip() or len(hold.reason) > MOST_REASON:
        raise InvalidRequest(
            f"The reason of a hold has {len(hold.reason)} characters.",
            hint=f"Use 1 to {MOST_REASON}: who looks at it reads it.",
        )
    if any(one.name == hold.name for one in holds):
        return holds
    if len(holds) >= MOST_HOLDS:
        raise LimitExceeded(f"There are {MOST_HOLDS} holds already.", hint="Release one first.", limit=MOST_HOLDS)
    return (*holds, hold)


def released(holds: Holds, name: str) -> Holds:
    """Return the holds without one. Raises `HoldNotFound` when there is none of the name."""
    left = tuple(hold for hold in holds if hold.name != name)
    if len(left) == len(holds):
        there = ", ".join(hold.name for hold in holds)
        hint = f"There are: {there}." if there else "There is none."
        raise HoldNotFound(f"No hold is called {name!r:.80}.", hint=hint, hold=name)
    return left


def check_name(name: object) -> str:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"{name!r:.80} is no name of a hold.", hint="Use 1-64 letters, digits or _ . : -, as in case-17."
        )
    return name


def check(session: str, holds: Iterable[Hold], tenants: Iterable[Hold] = ()) -> None:
    """Raise `SessionHeld`, which says who holds it, while there is a hold on a session or on its tenant."""
    for hold, whole in [*((hold, False) for hold in holds), *((hold, True) for hold in tenants)]:
        where = "Its tenant" if whole else f"Session {session!r}"
        release = (
            f"fabricctl tenant release --hold {hold.name}"
            if whole
            else f"fabricctl session release {session} --hold {hold.name}"
        )
        raise SessionHeld(
            f"{where} is held by {hold.by} ({hold.name}): nothing of it is removed.",
            hint=f"Who may release it: `{release}`.",
            session=session,
            hold=hold.name,
            by=hold.by,
            since=hold.since,
            tenant=whole,
        )
