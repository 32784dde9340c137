"""The gateway of `tests/gateway`, for the clients of others."""

from tests.gateway.conftest import house, start

__all__ = ["house", "start"]
