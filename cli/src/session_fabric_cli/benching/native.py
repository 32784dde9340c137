"""The way through the broker, as the SDK goes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from session_fabric import Fabric

from session_fabric_cli.benching.driving import Heard


class Native:
    """Writes by one connection and listens by another, as agents and viewers do."""

    through = "broker"

    def __init__(self, writing: Fabric, listening: Fabric) -> None:
        self._writing, self._listening = writing, listening

    async def append(self, session: str, id: str, body: Mapping[str, Any]) -> None:
        await self._writing.session(session).append(body, id=id)

    async def listen(self, session: str, heard: Heard) -> None:
        async with aclosing(self._listening.session(session).follow("start")) as events:
            async for event in events:
                heard(event.id)

    async def read(self, session: str) -> int:
        count = 0
        async with aclosing(self._listening.session(session).read("start")) as batches:
            async for records in batches:
                count += len(records)
        return count
