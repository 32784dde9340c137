"""200 sessions at 50 tokens a second: processor, latency, bytes a token."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from bench.load import TEXT, delta, targets
from bench.plan import Plan
from bench.report import Row, costs, middle, percentile
from bench.sockets import Publisher
from bench.stage import Cost, Stage
from bench.viewers import Viewers

_SESSIONS = 200
_PER_S = 50
_SECONDS = 6
_TEXT = len(TEXT + "0123456789abcdef tok")

# `nobody`: published and stored alike, and nobody listens; what the broker needs beyond that is the listener's.
Audience = Literal["gateway", "listener", "nobody"]


class Run(NamedTuple):
    cost: Cost
    per_s: float
    p50_ms: float
    p99_ms: float
    bytes_beyond: float
    wrong: int


def measure(plan: Plan) -> list[Row]:
    runs: dict[Audience, list[Run]] = {"gateway": [], "listener": [], "nobody": []}
    with Stage() as stage:
        for number in range(plan.rounds):
            for side, so_far in runs.items():
                so_far.append(_stream(stage, side, number, plan.scaled(_SECONDS, 3)))
    ours, theirs, nobody = runs["gateway"], runs["listener"], runs["nobody"]
    gateway = middle([r.cost.gateway_s / r.cost.wall_s for r in ours])
    broker, broker_there, broker_alone = (
        middle([r.cost.broker_s / r.cost.wall_s for r in rs]) for rs in (ours, theirs, nobody)
    )
    p50, p50_there = middle([r.p50_ms for r in ours]), middle([r.p50_ms for r in theirs])
    p99, p99_there = middle([r.p99_ms for r in ours]), middle([r.p99_ms for r in theirs])
    size, size_there = middle([r.bytes_beyond for r in ours]), middle([r.bytes_beyond for r in theirs])
    rate = middle([r.per_s for r in ours + theirs])
    faults = [f"{side}: {r.wrong} viewers had too few or too many" for side, rs in runs.items() for r in rs if r.wrong]
    if rate < 0.95 * _SESSIONS * _PER_S:
        faults.append(f"only {rate:,.0f} tokens/s were published")
    spent = "; ".join(costs(side, [r.cost for r in rs]) for side, rs in runs.items())
    return [
        Row(
            f"{_SESSIONS} sessions x {_PER_S} tokens/s: CPU",
            f"{gateway:.0%} of a core",
            f"{broker_there:.0%} of a core",
            gateway / broker_there,
            1.2,
            "less",
            notes=f"the gateway's process against the whole broker that serves its own listener; {spent}",
            faults=faults,
        ),
        Row(
            "  the same against what listening adds there",
            f"{gateway:.0%}",
            f"{broker_there:.0%} - {broker_alone:.0%}",
            gateway / max(broker_there - broker_alone, 0.001),
            None,
            "less",
            notes=f"the broker with nobody listening taken off; gateway and broker together {gateway + broker:.0%} "
            f"against {broker_there:.0%}: {(gateway + broker) / broker_there:.2f} x",
        ),
        Row(
            "  publish to socket, p50",
            f"{p50:.2f} ms",
            f"{p50_there:.2f} ms",
            p50 / p50_there,
            2.0,
            "less",
            notes=f"p99 {p99:.2f} ms against {p99_there:.2f} ms",
            faults=faults,
        ),
        Row(
            "  bytes a delta beyond its text", f"{size:.1f}", f"{size_there:.1f}", size, 60, "less", "B", faults=faults
        ),
    ]


def _stream(stage: Stage, side: Audience, number: int, seconds: int) -> Run:
    names = [f"tokens-{side}-{number}-{n}" for n in range(_SESSIONS)]
    stretches = list(stage.sessions(names).values())
    heard = "listener" if side == "nobody" else side
    # Somebody has to say when it is over: one viewer, of one session.
    watched = targets(heard, names[:1] if side == "nobody" else names)
    stage.serve(heard)
    total = _PER_S * seconds
    with Viewers(heard, stage.port_of(heard), watched, total, stamps=True) as viewers:
        publisher = Publisher(stage.nats_port)
        begun = stage.usage()
        begin, began = time.monotonic(), time.time()
        # Sessions speak one after another, evenly: ten of them each millisecond.
        for turn in range(total):
            for first in range(0, _SESSIONS, 10):
                due = begin + turn / _PER_S + first / _SESSIONS / _PER_S
                pause_s = due - time.monotonic()
                if pause_s > 0:
                    time.sleep(pause_s)
                now = time.time_ns()
                some = stretches[first : first + 10]
                publisher.publish([delta(to, "r1", turn, f"{TEXT}{now:016x} tok", turn * _TEXT) for to in some])
        published_s = time.monotonic() - begin
        seen = viewers.result()
        cost = stage.cost(begun, seen.cpu_s, seen.last - began)
        publisher.close()
    return Run(
        cost,
        total * _SESSIONS / published_s,
        percentile(seen.latencies_ms, 0.5),
        percentile(seen.latencies_ms, 0.99),
        seen.bytes / seen.events - _TEXT,
        seen.wrong,
    )
