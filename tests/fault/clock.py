"""A process's clock that can be stepped from outside."""

from __future__ import annotations

import time
from multiprocessing.sharedctypes import Synchronized


def step_by(offset_s: Synchronized[float]) -> None:
    """Have this process's wall clock be wrong by what `offset_s` says at the time. The monotonic one is not touched,
    as when a machine's time is set."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + offset_s.value
    time.time_ns = lambda: real_ns() + int(offset_s.value * 1e9)
