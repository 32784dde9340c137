"""One session, many viewers, saturated."""

from __future__ import annotations

from typing import cast

from bench.load import Rate, run_burst
from bench.report import Row, middle
from bench.sockets import Side
from bench.stage import Stage

_CASES = ((100, 5000), (1000, 1000))


def measure(rounds: int) -> list[Row]:
    return [_row(viewers, events, rounds) for viewers, events in _CASES]


def _row(viewers: int, events: int, rounds: int) -> Row:
    rates: dict[str, list[Rate]] = {"gateway": [], "listener": []}
    with Stage() as stage:
        for number in range(rounds):
            for side in rates:
                # A session of its own each time: nobody follows what the other side is measured on.
                stretches = stage.sessions([f"fan-{side}-{number}"])
                rates[side].append(run_burst(stage, cast("Side", side), stretches, viewers, events, f"r{number}"))
    return compare(f"fan-out to {viewers}, events/s", rates, 1.0)


def compare(name: str, rates: dict[str, list[Rate]], bar: float) -> Row:
    """Hold one side's rates against the other's."""
    ours, theirs = (middle([r.events_per_s for r in rates[side]]) for side in ("gateway", "listener"))
    lost = sum(r.lost for side in rates.values() for r in side)
    cpu = {s: [middle([r.gateway_cpu_s for r in rs]), middle([r.broker_cpu_s for r in rs])] for s, rs in rates.items()}
    return Row(
        name,
        f"{ours / 1000:,.0f} k/s",
        f"{theirs / 1000:,.0f} k/s",
        ours / theirs,
        bar,
        "more",
        notes=f"CPU s: ours gateway {cpu['gateway'][0]:.2f} + broker {cpu['gateway'][1]:.2f}; "
        f"listener's broker {cpu['listener'][1]:.2f}; events not delivered: {lost}",
        details={"cpu_s": cpu, "lost": lost},
    )
