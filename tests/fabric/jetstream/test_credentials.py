"""What the environment says of who one is."""

from __future__ import annotations

import pytest
from session_fabric.jetstream.credentials import VARIABLE, Credentials


def test_a_variable_that_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = "SESSION_FABRIC_NATS_"
    for variable in (VARIABLE, *(f"{prefix}{name}" for name in ("USER", "PASSWORD", "TOKEN", "CA", "CERT", "KEY"))):
        monkeypatch.setenv(variable, "")
    assert Credentials.of_environment() is None
