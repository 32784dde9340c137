"""The AI SDK's own clients, as npm has them, are durable by a change of their URL."""

from __future__ import annotations

import pytest

from tests.dialects.running import agent, tokens, vitest
from tests.gateway.conftest import Running

pytestmark = pytest.mark.slow


async def test_the_chat_transports_of_ai_7_and_6_work_as_they_are(house: Running) -> None:
    async with agent(house):
        await vitest("ai-sdk.test.mjs", **tokens(house))
