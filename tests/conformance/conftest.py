from __future__ import annotations

import pytest
from session_fabric.ports import Broker, Stretch

from tests.support.events import stretch


@pytest.fixture
async def to(broker: Broker, tenant: str) -> Stretch:
    """A fresh session's stretch on the broker."""
    return await stretch(broker, tenant)
