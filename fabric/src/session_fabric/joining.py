"""Being present in a session: `async with session.join(status="idle") as member:`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from session_fabric.parts import Parts
from session_fabric.presence import Shown, Who
from session_fabric.rules.presence import check_data, check_status
from session_fabric.words.names import check_id


class Joined:
    """A participant's device in a session, shown for as long as the block lasts."""

    def __init__(self, parts: Parts, data: Mapping[str, Any], status: str | None, device: str | None) -> None:
        self._parts = parts
        self._presence = parts.common.presence
        device = check_id(device or parts.common.holdings.holder, "device")
        self._who = Who(parts.place, parts.identity.participant, device)
        self._shown = Shown(check_data(data), check_status(status))

    async def __aenter__(self) -> Self:
        await self._parts.open()
        self._presence.join(self._who, self._shown)
        await self._presence.settled(self._who)
        return self

    async def update(self, *, data: Mapping[str, Any] | None = None, status: str | None = None) -> None:
        """Change what is shown; what is left out stays. Returns when the others are told."""
        new = Shown(
            self._shown.data if data is None else check_data(data),
            self._shown.status if status is None else check_status(status),
        )
        self._shown = new
        self._presence.update(self._who, new)
        await self._presence.settled(self._who)

    async def __aexit__(self, *_: object) -> None:
        self._presence.leave(self._who, at_once=True)
        await self._presence.settled(self._who)
