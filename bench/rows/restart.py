"""A broker killed and restarted under live viewers: until their next event."""

from __future__ import annotations

import time

from bench.load import TEXT, delta
from bench.plan import Plan
from bench.report import Row, middle
from bench.sockets import Publisher
from bench.stage import Stage
from bench.viewers import Viewers

_VIEWERS = 100


def measure(plan: Plan) -> list[Row]:
    waits = []
    for number in range(plan.rounds):
        with Stage() as stage:
            waits.append(_wait_s(stage, number))
    return [
        Row(
            "broker restarted: until the next event",
            f"{middle(waits):.2f} s",
            "clients' own affair",
            middle(waits),
            2.0,
            "less",
            "s",
            notes=f"kill -9 to the last of {_VIEWERS} viewers, the broker's own start within; worst {max(waits):.2f} s",
        )
    ]


def _wait_s(stage: Stage, number: int) -> float:
    session = f"restart-{number}"
    to = stage.sessions([session])[session]
    with Viewers("gateway", stage.gateway_port, [session] * _VIEWERS, 1, patience_s=30.0) as viewers:
        killed = time.time()
        stage.kill_broker()
        stage.start_broker()
        _publish_when_possible(stage, delta(to, "r1", 1, f"{TEXT}after", 0))
        seen = viewers.result()
    if seen.events < _VIEWERS:
        raise RuntimeError(f"only {seen.events} of {_VIEWERS} viewers got the event")
    return seen.first[-1] - killed


def _publish_when_possible(stage: Stage, message: bytes) -> None:
    """Publish as soon as the restarted broker takes it; the id makes a second try harmless."""
    deadline = time.monotonic() + 20
    while True:
        try:
            publisher = Publisher(stage.nats_port, timeout_s=0.2)
            publisher.publish([message])
            publisher.close()
            return
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
