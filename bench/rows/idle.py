"""What an idle WebSocket connection with one open session costs."""

from __future__ import annotations

from socket import socket

from bench.load import targets
from bench.plan import Plan
from bench.report import Row, middle
from bench.sockets import ALIVE, Side, gateway_viewer, listener_viewer
from bench.stage import Stage

_CONNECTIONS = 2000
_WARM = 100


def measure(plan: Plan) -> list[Row]:
    shared, own, there = [], [], []
    names = [f"idle-{n}" for n in range(_CONNECTIONS + _WARM)]
    for _ in range(plan.rounds):
        with Stage() as stage:
            stage.sessions(names[:1])
            shared.append(_cost_kib(stage, "gateway", names[:1] * len(names)))
        with Stage() as stage:
            stage.sessions(names)
            own.append(_cost_kib(stage, "gateway", names))
            there.append(_cost_kib(stage, "listener", targets("listener", names)))
    ours, theirs = middle(shared), middle(there)
    return [
        Row("memory of an idle connection", f"{ours:.1f} KiB", f"{theirs:.1f} KiB", ours, 25, "less", "KiB"),
        Row(
            "  each with a session of its own",
            f"{middle(own):.1f} KiB",
            f"{theirs:.1f} KiB",
            middle(own),
            None,
            "less",
            "KiB",
            notes="the connection and the gateway's feed of its session",
        ),
    ]


def _cost_kib(stage: Stage, side: Side, asked: list[str]) -> float:
    """Connect one viewer to each; return what each added to the resident memory of the server it is connected to."""
    resident = stage.broker_rss if side == "listener" else stage.gateway_rss
    held: list[socket] = []
    before = 0
    for number, name in enumerate(asked):
        if number == _WARM:
            before = resident()
        held.append(_connect(stage, side, name))
        if side == "gateway" and number % 500 == 0:
            for connection in held:
                connection.sendall(ALIVE)
    cost = (resident() - before) / (len(asked) - _WARM) / 1024
    for connection in held:
        connection.close()
    return cost


def _connect(stage: Stage, side: Side, asked: str) -> socket:
    port = stage.port_of(side)
    return listener_viewer(port, asked) if side == "listener" else gateway_viewer(port, asked)[0]
