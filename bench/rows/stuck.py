"""A viewer that never reads, in a session of 6.5 MB/s: what it costs, and what its neighbours notice."""

from __future__ import annotations

import time

from session_fabric.ports import Stretch

from bench.load import TEXT, delta
from bench.plan import Plan
from bench.report import Row, middle, percentile
from bench.sockets import Publisher, gateway_viewer
from bench.stage import Stage
from bench.viewers import Viewers

_PER_S = 5000
_TEXT_BYTES = 1300
# Long enough for the gateway to give the viewer up: 10 s without reading (docs/protocol.md section 7, 4408).
_SECONDS = 12
_NEIGHBOURS = 5
_TICK_S = 0.01


def measure(plan: Plan) -> list[Row]:
    costs, with_it, without = [], [], []
    faults: set[str] = set()
    for _ in range(plan.rounds):
        # A gateway of its own each: memory that was let go stays with the process, and would hide the next one's.
        alone, p99_alone, wrong_alone = _stream(stuck=False, seconds=plan.scaled(_SECONDS, 3))
        beside, p99_beside, wrong = _stream(stuck=True, seconds=plan.scaled(_SECONDS, 3))
        costs.append(float(beside - alone))
        without.append(p99_alone)
        with_it.append(p99_beside)
        if wrong or wrong_alone:
            faults.add(f"{wrong} neighbours ({wrong_alone} without it) had too few or too many events")
    p99, p99_alone = middle(with_it), middle(without)
    return [
        Row(
            "a viewer that never reads: memory",
            f"{middle(costs) / 1e6:.2f} MB",
            "",
            max(0.0, middle(costs) / 1e6),
            2.0,
            "less",
            "MB",
            notes="peak of a gateway's resident memory above that of another under the same load without it; "
            f"from {min(costs) / 1e6:.2f} to {max(costs) / 1e6:.2f}",
            faults=sorted(faults),
        ),
        Row(
            "  its neighbours' p99",
            f"{p99:.2f} ms",
            f"{p99_alone:.2f} ms without",
            p99 / p99_alone,
            # Unchanged, within what two equal runs differ by on a shared machine.
            1.25,
            "less",
            notes=f"without it from {min(without):.2f} to {max(without):.2f} ms, with it "
            f"from {min(with_it):.2f} to {max(with_it):.2f} ms",
            faults=sorted(faults),
        ),
    ]


def _stream(*, stuck: bool, seconds: int) -> tuple[int, float, int]:
    """Stream at an even rate; return the peak of memory, p99 in ms, and how many neighbours had another count."""
    total = _PER_S * seconds
    session = "loud"
    with Stage() as stage:
        to = stage.sessions([session])[session]
        with Viewers("gateway", stage.gateway_port, [session] * _NEIGHBOURS, total, stamps=True) as viewers:
            silent = gateway_viewer(stage.gateway_port, session)[0] if stuck else None
            peak = _publish(stage, to, seconds)
            seen = viewers.result()
            if silent is not None:
                silent.close()
    return peak, percentile(seen.latencies_ms, 0.99), seen.wrong


def _publish(stage: Stage, to: Stretch, seconds: int) -> int:
    """Publish at an even rate; return the gateway's peak of memory."""
    peak = 0
    per_tick = int(_PER_S * _TICK_S)
    filler = "x" * (_TEXT_BYTES - len(TEXT) - 16)
    publisher = Publisher(stage.nats_port)
    begin = time.monotonic()
    for tick in range(int(seconds / _TICK_S)):
        pause_s = begin + tick * _TICK_S - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        now = time.time_ns()
        first = tick * per_tick
        publisher.publish(
            [delta(to, "r1", n, f"{TEXT}{now:016x}{filler}", n * _TEXT_BYTES) for n in range(first, first + per_tick)]
        )
        if tick % 5 == 0:
            peak = max(peak, stage.gateway_rss())
    publisher.close()
    return peak
