"""Every capability of this gateway, by the name of its operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from session_fabric_gateway.capabilities import agents, asking, floor, governance, membership, presence, seen, state
from session_fabric_gateway.capabilities.form import Capability

_ALL: Final[tuple[Capability, ...]] = (
    *agents.CAPABILITIES,
    *asking.CAPABILITIES,
    *floor.CAPABILITIES,
    *governance.CAPABILITIES,
    *membership.CAPABILITIES,
    *presence.CAPABILITIES,
    *state.CAPABILITIES,
    *seen.CAPABILITIES,
)

CAPABILITIES: Final[Mapping[str, Capability]] = {capability.op: capability for capability in _ALL}
