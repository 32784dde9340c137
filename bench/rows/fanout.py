"""One session, many viewers, saturated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.load import Rate, run_burst
from bench.plan import Plan
from bench.report import Row, costs, middle
from bench.sockets import Side
from bench.stage import Stage

_CASES = ((100, 20_000), (1000, 2000))


def measure(plan: Plan) -> list[Row]:
    rows: list[Row] = []
    for viewers, events in _CASES:
        rows += _rows(viewers, plan.scaled(events), plan.rounds)
    return rows


def _rows(viewers: int, events: int, rounds: int) -> list[Row]:
    rates: dict[Side, list[Rate]] = {"gateway": [], "listener": [], "plain": []}
    with Stage() as stage:
        for number in range(rounds):
            for side, so_far in rates.items():
                # A session of its own each time: nobody follows what the other side is measured on.
                stretches = stage.sessions([f"fan-{side}-{number}"])
                so_far.append(run_burst(stage, side, stretches, viewers, events, f"r{number}"))
    return [
        compare(f"fan-out to {viewers:,}, events/s", rates["gateway"], rates["listener"], 1.0),
        compare("  without compact deltas", rates["plain"], rates["listener"], None),
    ]


def compare(name: str, ours: Sequence[Rate], theirs: Sequence[Rate], bar: float | None) -> Row:
    """Hold one side's rates against the other's."""
    rate, rate_there = (middle([r.events_per_s for r in side]) for side in (ours, theirs))
    sides: Mapping[str, Sequence[Rate]] = {"ours": ours, "listener's": theirs}
    # The processor of those who serve: on a busy machine it says more than the clock.
    work, work_there = (middle([(r.cost.gateway_s + r.cost.broker_s) for r in side]) for side in (ours, theirs))
    bytes_, bytes_there = (middle([r.bytes_per_event for r in side]) for side in (ours, theirs))
    return Row(
        name,
        f"{rate / 1000:,.0f} k/s",
        f"{rate_there / 1000:,.0f} k/s",
        rate / rate_there,
        bar,
        "more",
        notes="; ".join(costs(side, [r.cost for r in rates]) for side, rates in sides.items())
        + f"; by CPU of gateway and broker together {work_there / max(work, 0.01):.2f} x"
        + f"; {bytes_:.0f} and {bytes_there:.0f} bytes an event",
        details={side: [r.cost._asdict() | {"events_per_s": r.events_per_s} for r in rs] for side, rs in sides.items()},
        faults=sorted({f"{side}: {r.fault}" for side, rates in sides.items() for r in rates if r.fault}),
    )
