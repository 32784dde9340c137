"""Metrics of a gateway that is full: how long a scraper waits for them."""

from __future__ import annotations

import os
import time
import urllib.request
from socket import socket
from typing import Final

from bench.plan import Plan
from bench.report import Row, middle, percentile
from bench.sockets import ALIVE, gateway_viewer
from bench.stage import Stage

_CONNECTIONS: Final = 5000
_SESSIONS: Final = 100
_SCRAPES: Final = 30
_BAR_MS: Final = 50
# Those here come from one address and are one participant, which real ones are not.
_OPEN: Final = tuple(
    part
    for limit in ("address.connections", "address.requests", "tenant.connections", "tenant.opens")
    for part in ("--limit", f"{limit}=none")
)
# What Prometheus asks for.
_ACCEPT: Final = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"


def measure(plan: Plan) -> list[Row]:
    count = plan.scaled(_CONNECTIONS)
    took: list[float] = []
    faults: list[str] = []
    size = series = 0
    with Stage(access=("--insecure", *_OPEN)) as stage:
        names = [f"scrape-{number}" for number in range(_SESSIONS)]
        stage.sessions(names)
        held: list[socket] = []
        try:
            for number in range(count):
                held.append(gateway_viewer(stage.gateway_port, names[number % _SESSIONS])[0])
                if number % 500 == 0:
                    _alive(held)
            for _ in range(plan.rounds):
                for number in range(_SCRAPES):
                    _alive(held[number::_SCRAPES])  # a few at a time, as clients of their own are
                    seconds, text = _scrape(stage.gateway_port)
                    took.append(seconds)
                size, series = len(text), sum(not line.startswith("#") for line in text.splitlines())
            if f'session_fabric_gateway_connections{{transport="websocket"}} {count}.0' not in text:
                faults.append(f"not all {count:,} connections are there any more")
        finally:
            for connection in held:
                connection.close()
    p50 = middle(took) * 1e3
    return [
        Row(
            f"a scrape of the metrics at {count:,} live connections",
            f"{p50:.1f} ms",
            "",
            p50,
            _BAR_MS,
            "less",
            "ms",
            notes=f"p99 {percentile(took, 0.99) * 1e3:.1f} ms; {series:,} series, {size / 1024:.0f} KiB; "
            f"load average {os.getloadavg()[0]:.1f}",
            faults=faults,
        )
    ]


def _alive(held: list[socket]) -> None:
    for connection in held:
        connection.sendall(ALIVE)


def _scrape(port: int) -> tuple[float, str]:
    """Ask as a scraper does; return the seconds until the answer was there, and the answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": _ACCEPT})
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return time.perf_counter() - begun, text
