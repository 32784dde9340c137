"""A viewer that never reads, in a session of 6.5 MB/s: what it costs, and what its neighbours notice."""

from __future__ import annotations

import time

from session_fabric.ports import Stretch

from bench.load import delta
from bench.report import Row, middle, percentile
from bench.sockets import Publisher, gateway_viewer
from bench.stage import Stage
from bench.viewers import Viewers

_PER_S = 5000
_TEXT_BYTES = 1300
_SECONDS = 4
_NEIGHBOURS = 5
_TICK_S = 0.01


def measure(rounds: int) -> list[Row]:
    costs, with_it, without = [], [], []
    with Stage() as stage:
        for number in range(rounds):
            without.append(_p99(stage, f"alone-{number}"))
            cost, p99 = _stuck(stage, f"stuck-{number}")
            costs.append(cost)
            with_it.append(p99)
    p99, p99_alone = middle(with_it), middle(without)
    return [
        Row(
            "a viewer that never reads: memory",
            f"{middle(costs) / 1e6:.2f} MB",
            "64 MB queued (read)",
            max(0.0, middle(costs) / 1e6),
            2.0,
            "less",
            "MB",
            notes="peak of the gateway's resident memory above the same load without it",
        ),
        Row(
            "  its neighbours' p99",
            f"{p99:.2f} ms",
            f"{p99_alone:.2f} ms without it",
            p99 / p99_alone,
            # Unchanged, within what two equal runs differ by on a shared machine.
            1.25,
            "less",
        ),
    ]


def _p99(stage: Stage, session: str) -> float:
    to = stage.sessions([session])[session]
    return _stream(stage, session, to)[1]


def _stuck(stage: Stage, session: str) -> tuple[float, float]:
    # The same load first, so that what the session itself costs (its ring) is not taken for the viewer's.
    warm = stage.sessions([f"{session}-warm"])[f"{session}-warm"]
    usual, _ = _stream(stage, f"{session}-warm", warm)
    to = stage.sessions([session])[session]
    viewer, _ = gateway_viewer(stage.gateway_port, session)
    peak, p99 = _stream(stage, session, to)
    viewer.close()
    return float(peak - usual), p99


def _stream(stage: Stage, session: str, to: Stretch) -> tuple[int, float]:
    """Stream at an even rate; return the gateway's peak of memory, and p99 of the neighbours in ms."""
    total = _PER_S * _SECONDS
    peak = 0
    per_tick = int(_PER_S * _TICK_S)
    expect = total * _NEIGHBOURS
    with Viewers("gateway", stage.gateway_port, [session] * _NEIGHBOURS, expect, stamps=True) as viewers:
        publisher = Publisher(stage.nats_port)
        begin = time.monotonic()
        filler = "x" * (_TEXT_BYTES - 17)
        for tick in range(int(_SECONDS / _TICK_S)):
            pause_s = begin + tick * _TICK_S - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            now = time.time_ns()
            first = tick * per_tick
            texts = [
                delta(to, "r1", first + n, f"~{now:016x}{filler}", (first + n) * _TEXT_BYTES) for n in range(per_tick)
            ]
            publisher.publish(texts)
            if tick % 10 == 0:
                peak = max(peak, stage.gateway_rss())
        seen = viewers.result()
        publisher.close()
    return peak, percentile(seen.latencies_ms, 0.99)
