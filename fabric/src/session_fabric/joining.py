"""Being present in a session: `async with session.join(status="idle") as member:`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

from session_fabric.parts import Parts
from session_fabric.presence import Shown, Who
from session_fabric.rules.presence import check_data, check_status
from session_fabric.words.errors import FabricError
from session_fabric.words.names import check_id

# What is not named stays: a status of None is none.
STAYS: Final = "stays"


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
        try:
            await self._presence.settled(self._who)
        except BaseException:
            self._presence.leave(self._who, at_once=True)
            raise
        return self

    async def update(self, *, data: Mapping[str, Any] | None = None, status: str | None = STAYS) -> None:
        """Change what is shown; what is left out stays, and a status of None is none.

        Returns when the others are told: of changes at the same time, of the newest. Raises `TooLarge`,
        `InvalidRequest`, `BrokerUnavailable` (it is told when the broker answers).
        """
        self._shown = Shown(
            self._shown.data if data is None else check_data(data),
            self._shown.status if status == STAYS else check_status(status),
        )
        self._presence.update(self._who, self._shown)
        await self._presence.settled(self._who)

    async def __aexit__(self, *_: object) -> None:
        self._presence.leave(self._who, at_once=True)
        with suppress(FabricError):  # it leaves when the broker answers, or with our lease
            await self._presence.settled(self._who)
