from __future__ import annotations

import pytest

from tests.support.containers import build


@pytest.fixture(scope="session")
def image() -> str:
    """The image of the gateway and of fabricctl, from this checkout."""
    return build("deploy/Dockerfile", "session-fabric:local")
