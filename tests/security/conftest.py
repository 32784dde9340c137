"""A world for tests of native connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.security.native_world import World, serving
from tests.support.natives import guarded_server


@pytest.fixture
async def world(tmp_path: Path, tenant: str) -> AsyncIterator[World]:
    async with guarded_server(tmp_path) as guarded, serving(guarded, tenant) as one:
        yield one
