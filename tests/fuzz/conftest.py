"""How hard it is tried: the same examples each time, unless `FUZZ_ROUND` says that it is the long run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_ROUND = os.environ.get("FUZZ_ROUND")
_HEALTH = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "fuzz", derandomize=True, database=None, deadline=None, max_examples=300, suppress_health_check=_HEALTH
)
settings.register_profile(
    "fuzz-long", derandomize=False, database=None, deadline=None, max_examples=20_000, suppress_health_check=_HEALTH
)
