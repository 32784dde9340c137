"""200 sessions at 50 tokens a second: processor, latency, bytes a token."""

from __future__ import annotations

import time

from bench.load import delta, live_subject
from bench.report import Row, middle, percentile
from bench.sockets import Publisher, Side
from bench.stage import Stage
from bench.viewers import Viewers

_SESSIONS = 200
_PER_S = 50
_SECONDS = 6
_TEXT = len("~0123456789abcdef tok")


def measure(rounds: int) -> list[Row]:
    runs: dict[Side, list[tuple[float, float, float, float, float]]] = {"gateway": [], "listener": []}
    with Stage() as stage:
        for number in range(rounds):
            for side in runs:
                runs[side].append(_stream(stage, side, number))
    gateway_cpu, gateway_broker, p50, p99, size = (middle(column) for column in zip(*runs["gateway"], strict=True))
    _, listener_cpu, p50_there, p99_there, _ = (middle(column) for column in zip(*runs["listener"], strict=True))
    return [
        Row(
            f"{_SESSIONS} sessions x {_PER_S} tokens/s: CPU",
            f"{gateway_cpu / _SECONDS:.0%} of a core",
            f"{listener_cpu / _SECONDS:.0%} of a core",
            gateway_cpu / listener_cpu,
            1.2,
            "less",
            notes=f"the gateway's process against the broker that serves its own listener; our broker beside it "
            f"{gateway_broker / _SECONDS:.0%}",
        ),
        Row(
            "  publish to socket, p50",
            f"{p50:.2f} ms",
            f"{p50_there:.2f} ms",
            p50 / p50_there,
            2.0,
            "less",
            notes=f"p99 {p99:.2f} ms against {p99_there:.2f} ms",
        ),
        Row("  bytes a delta beyond its text", f"{size:.1f}", "about 300", size, 60, "less", "B"),
    ]


def _stream(stage: Stage, side: Side, number: int) -> tuple[float, float, float, float, float]:
    """Return the processor's seconds of gateway and broker, p50 and p99 in ms, bytes beyond the text."""
    names = [f"tokens-{side}-{number}-{n}" for n in range(_SESSIONS)]
    stretches = list(stage.sessions(names).values())
    targets = names if side == "gateway" else [live_subject(name) for name in names]
    port = stage.gateway_port if side == "gateway" else stage.listener_port
    total = _PER_S * _SECONDS
    with Viewers(side, port, targets, total * _SESSIONS, stamps=True) as viewers:
        publisher = Publisher(stage.nats_port)
        before = stage.cpu_s()
        begin = time.monotonic()
        # Sessions speak one after another, evenly: ten of them each millisecond.
        for turn in range(total):
            for first in range(0, _SESSIONS, 10):
                due = begin + turn / _PER_S + first / _SESSIONS / _PER_S
                pause_s = due - time.monotonic()
                if pause_s > 0:
                    time.sleep(pause_s)
                now = time.time_ns()
                some = stretches[first : first + 10]
                publisher.publish([delta(to, "r1", turn, f"~{now:016x} tok", turn * _TEXT) for to in some])
        seen = viewers.result()
        after = stage.cpu_s()
        publisher.close()
    p50, p99 = percentile(seen.latencies_ms, 0.5), percentile(seen.latencies_ms, 0.99)
    return after[0] - before[0], after[1] - before[1], p50, p99, seen.bytes / seen.events - _TEXT
