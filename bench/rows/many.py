"""A thousand sessions with one viewer each, saturated."""

from __future__ import annotations

from bench.load import Rate, run_burst
from bench.plan import Plan
from bench.report import Row
from bench.rows.fanout import compare
from bench.sockets import Side
from bench.stage import Stage

_SESSIONS = 1000
_EVENTS = 100


def measure(plan: Plan) -> list[Row]:
    rates: dict[Side, list[Rate]] = {"gateway": [], "listener": []}
    with Stage() as stage:
        for number in range(plan.rounds):
            for side, so_far in rates.items():
                stretches = stage.sessions([f"many-{side}-{number}-{n}" for n in range(_SESSIONS)])
                so_far.append(run_burst(stage, side, stretches, 1, plan.scaled(_EVENTS), f"r{number}"))
    return [compare(f"{_SESSIONS:,} sessions x 1 viewer, messages/s", rates["gateway"], rates["listener"], 0.5)]
