"""Whether what a tenant makes has to be sealed: remembered of so many tenants, and no more."""

from __future__ import annotations

import pytest
from session_fabric.keyring import Sealed
from session_fabric.sealing import Sealing
from session_fabric.words.errors import KeyMissing


async def test_of_tenants_without_number_those_that_came_last_are_remembered() -> None:
    asked = list[str]()

    async def newest(tenant: str) -> list[Sealed | None]:
        asked.append(tenant)
        return []

    sealing = Sealing(None)
    for n in range(20_001):
        await sealing.check(f"t{n}", newest)
    asked.clear()
    await sealing.check("t20000", newest)
    await sealing.check("t0", newest)
    assert asked == ["t0"]
    sealing.heard("t0", Sealed(key="k1", wrapped=""))
    with pytest.raises(KeyMissing):
        await sealing.check("t0", newest)
