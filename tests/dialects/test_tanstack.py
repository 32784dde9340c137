"""TanStack AI's own client, as it comes from npm, against the gateway: see `node/tanstack.test.mjs`."""

from __future__ import annotations

import pytest

from tests.dialects.running import agent, tokens, vitest
from tests.gateway.conftest import Running

pytestmark = pytest.mark.slow


async def test_tanstacks_own_client_works_as_it_is(house: Running) -> None:
    async with agent(house):
        await vitest("tanstack.test.mjs", **tokens(house))
