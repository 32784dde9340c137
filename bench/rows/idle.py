"""What an idle WebSocket connection with one open session costs."""

from __future__ import annotations

from bench.report import Row, middle
from bench.sockets import gateway_viewer
from bench.stage import Stage

_CONNECTIONS = 2000


def measure(rounds: int) -> list[Row]:
    costs = []
    for _ in range(rounds):
        with Stage() as stage:
            stage.sessions(["idle"])
            warm = [gateway_viewer(stage.gateway_port, "idle")[0] for _ in range(100)]
            before = stage.gateway_rss()
            held = [gateway_viewer(stage.gateway_port, "idle")[0] for _ in range(_CONNECTIONS)]
            costs.append((stage.gateway_rss() - before) / _CONNECTIONS / 1024)
            for viewer in warm + held:
                viewer.close()
    ours = middle(costs)
    return [Row("memory of an idle connection", f"{ours:.1f} KiB", "", ours, 25, "less", "KiB")]
