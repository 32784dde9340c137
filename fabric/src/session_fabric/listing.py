"""A tenant's sessions in pages: each costs what is looked at for it, however many sessions there are.

The order is that of the last change to each session's record, newest first: that is how the broker keeps them. A list
is read in rounds. The first goes down to the oldest record; each later one down to where the round before began, since
a record that changes while one reads moves to the top. So none is missed, and one that has changed may come again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from session_fabric.records import Directory, Listed, SessionRecord
from session_fabric.words.arguments import check_text, check_whole
from session_fabric.words.errors import InvalidRequest

MOST: Final = 1000
_CURSOR: Final = re.compile(r"(\d{1,18})~(\d{1,18})~(\d{1,18})")


class SessionsPage(NamedTuple):
    """Sessions, the newest change first; `next` is the cursor of the page behind, None at the end.

    `changed`: when each record was written, milliseconds since 1970. `looked`: at how many records one has looked.
    """

    records: list[SessionRecord]
    next: str | None
    changed: list[int]
    looked: int


class _Round(NamedTuple):
    """Where a round is: on below `below` (None: it has not begun), down to above `floor`; it began at `top`."""

    below: int | None = None
    top: int = 0
    floor: int = 0

    def __str__(self) -> str:
        return f"{self.below or 0}~{self.top}~{self.floor}"


def check_limit(limit: int) -> int:
    return check_whole(limit, "limit", 1, MOST)


async def page(
    directory: Directory,
    tenant: str | None,
    *,
    limit: int,
    cursor: str | None = None,
    where: Callable[[SessionRecord], bool] | None = None,
    since_ms: int = 0,
) -> SessionsPage:
    """Return a page; see `Fabric.sessions`. Raises `InvalidRequest`, `BrokerUnavailable`."""
    check_limit(limit)
    check_whole(since_ms // 1 if isinstance(since_ms, float) else since_ms, "since_ms", -(1 << 53), 1 << 53)
    if where is not None and not callable(where):
        raise InvalidRequest(f"where is {where!r:.60}.", hint="Use a function of the record that says yes or no.")
    at = _read(cursor)
    kept: list[Listed] = []
    looked, asks = 0, 0
    while True:
        # One more than is wanted tells whether there is a page behind.
        ask = min(MOST, max(2, limit + 1 - len(kept)) << min(asks, 10))
        asks += 1
        found = await directory.latest(tenant, ask, at.below)
        if at.below is None:
            at = at._replace(top=found[0].revision if found else at.floor)
        for listed in found:
            if listed.revision <= at.floor or listed.ts < since_ms:
                break
            looked += 1
            if _shown(listed, where):
                if len(kept) == limit:
                    return _page(kept, str(at._replace(below=kept[-1].revision)), looked)
                kept.append(listed)
        else:
            if len(found) == ask:
                at = at._replace(below=found[-1].revision)
                continue
        # The end of a round. What was read at once is of one moment.
        if cursor is None and asks == 1:
            return _page(kept, None, looked)
        newer = await directory.latest(tenant, 1)
        if not newer or newer[0].revision <= at.top:
            return _page(kept, None, looked)
        at = _Round(None, 0, at.top)
        if kept:
            return _page(kept, str(at), looked)


def _shown(listed: Listed, where: Callable[[SessionRecord], bool] | None) -> bool:
    record = listed.record
    return record is not None and record.state != "deleted" and (where is None or where(record))


def _page(kept: list[Listed], next: str | None, looked: int) -> SessionsPage:
    return SessionsPage([one.record for one in kept if one.record is not None], next, [one.ts for one in kept], looked)


def _read(cursor: str | None) -> _Round:
    if cursor is None:
        return _Round()
    match = _CURSOR.fullmatch(check_text(cursor, "cursor"))
    if match is None:
        raise InvalidRequest(f"{cursor!r:.60} is not a cursor.", hint="Use `next` of the page before.")
    below, top, floor = map(int, match.groups())
    return _Round(below or None, top, floor)
