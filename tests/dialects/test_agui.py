"""AG-UI's own `HttpAgent`, as it comes from npm, against the gateway: see `node/agui.test.mjs`."""

from __future__ import annotations

import pytest

from tests.dialects.running import agent, tokens, vitest
from tests.gateway.conftest import Running

pytestmark = pytest.mark.slow


async def test_ag_uis_own_client_works_as_it_is(house: Running) -> None:
    async with agent(house):
        await vitest("agui.test.mjs", **tokens(house))
