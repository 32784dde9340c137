"""Which sessions a stretch is part of: what the relay is told, since a fork may read what its source may not show."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import orjson

from session_fabric.ports import Stretch

_MOST: Final = 20_000


class Known:
    """Segments seen in session records, and in whose."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, str] = OrderedDict()

    def take(self, value: bytes) -> None:
        """Look at a session's record as its bucket keeps it."""
        try:
            record = orjson.loads(value)
            name, segments = record["session"], [(one["id"], one["session"]) for one in record["segments"]]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            return  # whoever reads it says so
        for id, session in segments:
            if session == name or id not in self._sessions:
                self._sessions[id] = name
        while len(self._sessions) > _MOST:
            self._sessions.popitem(last=False)

    def session_of(self, to: Stretch) -> str:
        return self._sessions.get(to.segment, to.place.session)
