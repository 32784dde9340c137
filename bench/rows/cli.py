"""fabricctl, as somebody at a terminal has it: until it has started."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.plan import Plan
from bench.report import Row, middle

_STARTS = 20


def measure(plan: Plan) -> list[Row]:
    took = [_start_s() for _ in range(plan.scaled(_STARTS) + 1)][1:]  # the first one reads files from the disk
    return [
        Row(
            "fabricctl starts",
            f"{middle(took) * 1000:.0f} ms",
            "",
            middle(took),
            0.3,
            "less",
            "s",
            notes=f"`fabricctl --version`, the middle of {len(took)}; worst {max(took) * 1000:.0f} ms",
        )
    ]


def as_installed() -> dict[str, str]:
    """Return an environment in which Python keeps what it compiled: where it may not, each start compiles it all."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _start_s() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "session_fabric_cli", "--version"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=as_installed(), timeout=60)
    return time.perf_counter() - begun
