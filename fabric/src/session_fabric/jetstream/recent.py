"""The ids of what sessions stored shortly before they moved.

A copy has the events, but in a cluster not the broker's memory of their ids (nats-server 2.15): a retry over a move
would be stored again. For as long as the broker would remember, who writes looks for the id himself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from session_fabric.jetstream.streams import DUPLICATE_WINDOW_S
from session_fabric.jetstream.topology import now_ms
from session_fabric.ports import Stretch
from session_fabric.rules.layout import Lodged
from session_fabric.words.subjects import Place
from session_fabric.words.wire import MSG_ID, Record

# Of a session, and of how many sessions.
_MOST_IDS: Final = 5000
_MOST_SESSIONS: Final = 1000
# Our clock and the broker's, and how long a retry is on its way.
_SPARE_MS: Final = 30_000

Read = Callable[[Stretch, int, int], Awaitable[Sequence[Record]]]


class Recent:
    """Looks up what was stored before a move.

    `read` gives the newest events of a stretch below a sequence, and leaves large bodies where they are.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._ids: OrderedDict[tuple[Place, str], dict[str, int]] = OrderedDict()

    async def sequence(self, at: Lodged, to: Stretch, message: str) -> int | None:
        """Return where a message was stored before its session came where it is; None: nowhere, as far as counts."""
        came = at.moves[0]
        if came.empty or now_ms() > came.placed_ms + DUPLICATE_WINDOW_S * 1000 + _SPARE_MS:
            return None
        key = (to.place, at.stream)
        ids = self._ids.get(key)
        if ids is None:
            ids = self._ids[key] = await self._recent(to, came.cut, came.placed_ms)
            if len(self._ids) > _MOST_SESSIONS:
                self._ids.popitem(last=False)
        return ids.get(message)

    async def _recent(self, to: Stretch, cut: int, placed_ms: int) -> dict[str, int]:
        ids: dict[str, int] = {}
        since_ms = placed_ms - DUPLICATE_WINDOW_S * 1000 - _SPARE_MS
        for record in await self._read(to, cut + 1, _MOST_IDS):
            message = record.header(MSG_ID)
            if message is not None and record.ts >= since_ms:
                ids[message] = record.sequence
        return ids
