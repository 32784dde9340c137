"""Who behaves, beside those who do not: how long a token takes to a browser while others do all that they can."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import attackers
from bench.attackers import Attack, Attackers, Target
from bench.load import burst
from bench.plan import Plan
from bench.probe import Pair, Probe
from bench.report import Row, middle, percentile
from bench.sockets import Publisher
from bench.stage import Stage, going_first
from bench.tokens import Signer

# Four answers are streamed to a browser each, 50 tokens a second: 1,600 times of 8 s make a 99th percentile.
_PAIRS: Final = 4
_PER_S: Final = 50
_ALONE_S: Final = 6.0
_BESIDE_S: Final = 8.0
# Until an attacker has used up what a pause has saved for it, and is held to its rates.
_USED_UP_S: Final = 4.0
_SETTLED_S: Final = 1.5
_BAR: Final = 3.0
# Alone it is 1 to 2 ms on a quiet machine. Where it is more than this, others have the processors, and a ratio to it
# says nothing, be it good or bad.
_QUIET_MS: Final = 10.0
_LONG: Final = 3000
_PEOPLE: Final = 16

_ATTACKS: Final[dict[str, Sequence[Attack]]] = {
    "appends as fast as bytes go": [attackers.appends],
    "pings and nonsense as fast as bytes go": [attackers.frames],
    "connection storms": [attackers.storm, attackers.knocks],
    "slow heads, half-open sockets": [attackers.slowly],
    "bodies and frames that are too large": [attackers.bodies, attackers.large_frames],
    "all the sessions one may have open, floods of catch-up": [attackers.opens, attackers.catch_ups],
    "another tenant at its limit": [attackers.tenant],
}


class Beside(NamedTuple):
    """One attack, between two measurements alone. `load`: what the gateway's processor did, as a share of a core."""

    alone: list[float]
    beside: list[float]
    lost: int
    load: float
    attack: str


def measure(plan: Plan) -> list[Row]:
    signer = Signer()
    runs: dict[str, list[Beside]] = {name: [] for name in (*_ATTACKS, "all at once")}
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        keys = signer.publish(Path(directory) / "keys.json")
        with going_first() as first, Stage(access=("--token-keys", str(keys))) as stage:
            eve, others = _targets(stage, signer)
            good = stage.sessions([f"good-{number}" for number in range(_PAIRS)])
            pairs = [
                Pair(stretch, name, signer.token(f"user:good{number}", sessions={name: ["read"]}))
                for number, (name, stretch) in enumerate(good.items())
            ]
            with Probe(stage.gateway_port, stage.nats_port, pairs, _PER_S) as probe:
                for _ in range(plan.rounds):
                    for name, so_far in runs.items():
                        attacks = _ATTACKS.get(name) or [one for some in _ATTACKS.values() for one in some]
                        so_far.append(_beside(stage, probe, attacks, eve, others, plan))
    return [_row(name, some, first) for name, some in runs.items()]


def _targets(stage: Stage, signer: Signer) -> tuple[Target, Target]:
    """Return what one participant has to attack with, and what a tenant has."""
    names = [f"long-{number}" for number in range(4)]
    publisher = Publisher(stage.nats_port)
    publisher.publish(burst(stage.sessions(names), _LONG, "r1"))
    publisher.close()
    all_ = {"*": ["*"]}
    eve = Target(stage.gateway_port, [signer.token("user:eve", sessions=all_)], names)
    people = [signer.token(f"user:p{number}", tenant="other", sessions=all_) for number in range(_PEOPLE)]
    return eve, Target(stage.gateway_port, people, names)


def _beside(stage: Stage, probe: Probe, attacks: Sequence[Attack], eve: Target, others: Target, plan: Plan) -> Beside:
    alone_s, beside_s = (1.0, 2.0) if plan.quick else (_ALONE_S, _BESIDE_S)
    time.sleep(_SETTLED_S)
    before = probe.measure(alone_s)
    one = Attackers([attack for attack in attacks if attack is not attackers.tenant], eve)
    other = Attackers([attack for attack in attacks if attack is attackers.tenant], others)
    with one, other:
        time.sleep(_USED_UP_S)
        begun, began = stage.usage(), time.monotonic()
        beside = probe.measure(beside_s)
        cost = stage.cost(begun, 0.0, time.monotonic() - began)
    time.sleep(_SETTLED_S)
    after = probe.measure(alone_s)
    sent, connections = one.told.sent + other.told.sent, one.told.connections + other.told.connections
    return Beside(
        before.ms + after.ms,
        beside.ms,
        before.lost + beside.lost + after.lost,
        cost.gateway_s / cost.wall_s,
        f"{sent / 1e6:,.0f} MB, {connections:,} connections",
    )


def _row(name: str, some: Sequence[Beside], first: bool) -> Row:
    alone, beside = ([middle([percentile(ms, share) for ms in side]) for share in (0.5, 0.99)] for side in _sides(some))
    ratios = [percentile(one.beside, 0.99) / percentile(one.alone, 0.99) for one in some]
    lost = sum(one.lost for one in some)
    load = middle([one.load for one in some])
    faults = [f"{lost} tokens never came"] if lost else []
    if alone[1] > _QUIET_MS:
        faults.append(f"the machine is busy with other things: {alone[1]:.0f} ms alone")
    return Row(
        f"beside {name}: p99",
        f"{beside[1]:.2f} ms",
        f"{alone[1]:.2f} ms alone",
        middle(ratios),
        _BAR,
        "less",
        notes=f"p50 {beside[0]:.2f} ms, {alone[0]:.2f} ms alone; the gateway at {load:.0%} "
        f"of a core; attackers sent {some[-1].attack}; each round {', '.join(f'{ratio:.2f} x' for ratio in ratios)}"
        + ("" if first else "; not allowed to go first: waits for what the kernel does for attackers are in it"),
        faults=faults,
    )


def _sides(some: Sequence[Beside]) -> tuple[list[list[float]], list[list[float]]]:
    return [one.alone for one in some], [one.beside for one in some]
