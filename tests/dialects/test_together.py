"""The clients of three frameworks on one session, and the examples of their guides: `node/together.test.mjs`."""

from __future__ import annotations

import pytest

from tests.dialects.running import agent, tokens, vitest
from tests.gateway.conftest import Running

pytestmark = pytest.mark.slow


async def test_three_frameworks_on_one_session_show_the_same_conversation(house: Running) -> None:
    async with agent(house):
        await vitest("together.test.mjs", **tokens(house))
