"""The gateway of `tests/gateway`, for the clients of front-end frameworks."""

from tests.gateway.conftest import house, start

__all__ = ["house", "start"]
