"""A thousand sessions with one viewer each, saturated."""

from __future__ import annotations

from typing import cast

from bench.load import Rate, run_burst
from bench.report import Row
from bench.rows.fanout import compare
from bench.sockets import Side
from bench.stage import Stage

_SESSIONS = 1000
_EVENTS = 60


def measure(rounds: int) -> list[Row]:
    rates: dict[str, list[Rate]] = {"gateway": [], "listener": []}
    with Stage() as stage:
        for number in range(rounds):
            for side in rates:
                stretches = stage.sessions([f"many-{side}-{number}-{n}" for n in range(_SESSIONS)])
                rates[side].append(run_burst(stage, cast("Side", side), stretches, 1, _EVENTS, f"r{number}"))
    return [compare(f"{_SESSIONS:,} sessions x 1 viewer, messages/s", rates, 0.5)]
