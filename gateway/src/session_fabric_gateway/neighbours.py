"""Whether the gateways beside this one are set as it is, where a difference is a hole."""

from __future__ import annotations

from typing import Final

import structlog
from session_fabric import FabricError
from session_fabric.census import gateways
from session_fabric.ports import Broker

log = structlog.get_logger()

_HINT: Final = "give all of them --encryption-keys: one that has none refuses what is to be sealed, or leaves it open"


async def compare(broker: Broker) -> None:
    """Look once at all gateways of a broker, this one among them; warn where some hold tenants' keys and some do not.

    Whoever comes later finds it out. Gateways that do not say which they are (0.1) do not count.
    """
    try:
        said = [one.told.get("seals") for one in await gateways(broker)]
    except FabricError as error:
        log.info("neighbours_not_looked_at", code=error.code)
        return
    with_keys, without = said.count(True), said.count(False)
    if with_keys and without:
        log.warning("keys_are_not_everywhere", with_keys=with_keys, without=without, hint=_HINT)
