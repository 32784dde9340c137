"""fabricctl, as somebody at a terminal has it: until it has started."""

from __future__ import annotations

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


def _start_s() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "session_fabric_cli", "--version"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    return time.perf_counter() - begun
