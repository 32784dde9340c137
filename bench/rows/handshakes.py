"""New connections: how many a second one gateway process takes, each with a token of its own."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.arrivals import Arriving, arrive
from bench.load import burst
from bench.plan import Plan
from bench.report import Row, costs, middle, percentile
from bench.sockets import Publisher
from bench.stage import Cost, Stage
from bench.tokens import Signer

_CONNECTIONS: Final = 3000
# Open so many at a time: enough that the gateway never waits for a client, and few enough that what one takes is still
# a handshake's time and not a queue's.
_AT_ONCE: Final = 32
# What is caught up on: a conversation that many devices come back to.
_SESSIONS: Final = 50
_EVENTS: Final = 20
_BAR_PER_S: Final = 500
_GRANTED: Final = {"hs-*": ["read"]}
# All come from one address and one tenant, which real ones do not: 500 a second is the default for each.
_OPEN: Final = ("--limit", "address.connections=none", "--limit", "address.requests=none")
_TENANT: Final = ("--limit", "tenant.connections=none", "--limit", "tenant.opens=none")


class Run(NamedTuple):
    """One crowd: `took_s` is what each client waited, beginning with its connect."""

    per_s: float
    took_s: list[float]
    gateway_ms: float
    cost: Cost


def measure(plan: Plan) -> list[Row]:
    count = plan.scaled(_CONNECTIONS)
    fresh: list[Run] = []
    known: list[Run] = []
    caught_up: list[Run] = []
    alone: list[Run] = []
    faults: list[str] = []
    signer = Signer()
    with _stage(signer) as stage:
        names = [f"hs-{number}" for number in range(_SESSIONS)]
        publisher = Publisher(stage.nats_port)
        publisher.publish(burst(stage.sessions(names), _EVENTS, "r1"))
        publisher.close()

        def token(number: int) -> str:
            return signer.token(f"user:u{number}", sessions=_GRANTED)

        _crowd(stage, [Arriving(token(n)) for n in range(200)], _AT_ONCE, faults)  # the first do what is done once
        for _ in range(plan.rounds):
            tokens = [token(number) for number in range(count)]
            fresh.append(_crowd(stage, [Arriving(each) for each in tokens], _AT_ONCE, faults))
            known.append(_crowd(stage, [Arriving(each) for each in tokens], _AT_ONCE, faults))
            looking = [Arriving(token(number), names[number % _SESSIONS]) for number in range(count)]
            caught_up.append(_crowd(stage, looking, _AT_ONCE, faults))
            alone.append(_crowd(stage, [Arriving(token(number)) for number in range(count // 5)], 1, faults))
    return [
        _row("new connections to one process, each with a new token", fresh, _BAR_PER_S, faults),
        _row("  tokens that it has seen before", known, None, faults),
        _row(f"  until one of {_SESSIONS} sessions is open and caught up", caught_up, None, faults),
        _row("  one at a time", alone, None, faults),
    ]


@contextmanager
def _stage(signer: Signer) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        keys = signer.publish(Path(directory) / "keys.json")
        with Stage(access=("--token-keys", str(keys), *_OPEN, *_TENANT)) as stage:
            yield stage


def _crowd(stage: Stage, all_: Sequence[Arriving], at_once: int, faults: list[str]) -> Run:
    _emptied(stage)
    begun = stage.usage()
    arrived = arrive(stage.gateway_port, all_, at_once)
    cost = stage.cost(begun, arrived.cpu_s, arrived.wall_s)
    if arrived.failed:
        faults.append(f"{len(arrived.failed)} of {len(all_)} were not let in: {arrived.failed[0]}")
    took = arrived.live_s or arrived.welcome_s or [0.0]
    return Run(len(took) / arrived.wall_s, took, cost.gateway_s / len(took) * 1e3, cost)


def _emptied(stage: Stage) -> None:
    """Wait until the crowd before has left: seeing it off is work too."""
    none = b'session_fabric_gateway_connections{transport="websocket"} 0.0'
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{stage.gateway_port}/metrics") as answer:
            told = answer.read()
        if none in told or b'connections{transport="websocket"}' not in told:
            return
        time.sleep(0.2)


def _row(name: str, runs: list[Run], bar: float | None, faults: list[str]) -> Row:
    rate = middle([run.per_s for run in runs])
    p50, p99 = (middle([percentile(run.took_s, share) for run in runs]) * 1e3 for share in (0.5, 0.99))
    return Row(
        f"{name}, /s",
        f"{rate:,.0f} /s",
        "",
        rate,
        bar,
        "more",
        "/s",
        notes=f"each took p50 {p50:.1f} ms, p99 {p99:.1f} ms, and the gateway's processor "
        f"{middle([run.gateway_ms for run in runs]):.2f} ms; {costs('all', [run.cost for run in runs])}",
        faults=faults,
    )
