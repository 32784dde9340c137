"""Which faults a seed makes: a pure function of the seed, so that one that fails can be made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

NODES = ("n1", "n2", "n3")
GATEWAYS = ("g1", "g2")
WORKERS = ("w1", "w2", "w3")
PEOPLE = ("p1", "p2")
READERS = ("f1",)
BROWSERS = ("b1", "b2")
# Those of them on the TypeScript client, in Node; the others speak the protocol by themselves.
PAGES = frozenset({"b2"})
HOSTS = (*NODES, *GATEWAYS, *WORKERS, *PEOPLE, *READERS, *BROWSERS)
# What is done to the network itself: only where each host has its own.
NETWORK = frozenset({"partition", "one-way", "loss"})
# The node whose disk is small enough to be filled.
SMALL_DISK = "n3"


@dataclass(frozen=True)
class Step:
    """One fault: begins `after_s` after the one before of its lane was over, and lasts. `amount`: a fraction of
    packets, seconds of delay, seconds of a clock's step; `how`: what of several."""

    kind: str
    target: str
    after_s: float
    for_s: float
    amount: float = 0.0
    how: str = ""

    def __str__(self) -> str:
        more = f" {self.how}" * bool(self.how) + f" {self.amount:.2f}" * bool(self.amount)
        return f"{self.kind} {self.target}{more}, {self.for_s:.1f} s"


# Kinds of each lane, with how often of them, and how long they last at least and at most.
_Choice = tuple[str, int, float, float]
_LANES: dict[str, tuple[Sequence[str], Sequence[_Choice]]] = {
    # One at a time, and the next when all replicas are current again: a quorum is always left.
    "brokers": (
        NODES,
        (
            ("kill", 2, 0.5, 3.0),
            ("kill-leader", 4, 0.5, 3.0),
            ("freeze", 3, 1.0, 7.0),
            ("stop", 1, 0.2, 1.0),
            ("rolling", 1, 0.0, 0.0),
            ("partition", 3, 1.0, 8.0),
            ("one-way", 2, 1.0, 8.0),
            ("loss", 2, 2.0, 6.0),
            ("full-disk", 2, 1.0, 4.0),
            ("lost-data", 2, 0.2, 1.0),
        ),
    ),
    "edges": (
        (*GATEWAYS, *BROWSERS),
        (
            ("kill", 3, 0.2, 2.0),
            ("stop", 2, 0.2, 1.0),
            ("freeze", 2, 0.5, 6.0),
            ("clock", 1, 2.0, 6.0),
            ("partition", 2, 1.0, 6.0),
            ("one-way", 1, 1.0, 6.0),
            ("loss", 2, 2.0, 6.0),
            ("half-open", 3, 1.0, 7.0),
            ("refuse", 1, 0.5, 3.0),
            ("reset", 2, 0.0, 0.0),
            ("latency", 2, 2.0, 6.0),
            ("slow-reader", 2, 2.0, 8.0),
        ),
    ),
    "agents": (
        (*WORKERS, *WORKERS, *WORKERS, *PEOPLE, *READERS),
        (
            ("kill", 7, 0.2, 2.0),
            ("freeze", 5, 0.5, 7.0),
            ("clock", 1, 2.0, 6.0),
            ("partition", 2, 1.0, 6.0),
            ("one-way", 1, 1.0, 6.0),
            ("loss", 2, 2.0, 6.0),
            ("half-open", 3, 1.0, 7.0),
            ("reset", 2, 0.0, 0.0),
            ("latency", 2, 2.0, 6.0),
        ),
    ),
}
LANES = tuple(_LANES)
_MOST = 200


def schedule(seed: int) -> dict[str, list[Step]]:
    """Return each lane's faults, in order; more of them than any run gets to."""
    rng = Random(seed)
    return {lane: [_step(rng, lane) for _ in range(_MOST)] for lane in LANES}


def _step(rng: Random, lane: str) -> Step:
    targets, choices = _LANES[lane]
    kind, _, shortest, longest = rng.choices(choices, [choice[1] for choice in choices])[0]
    target, how, amount = rng.choice(targets), "", 0.0
    if kind == "slow-reader":
        target = rng.choice(BROWSERS)
    elif kind == "stop" and lane == "edges":
        target = rng.choice(GATEWAYS)
    elif kind == "full-disk":
        target = SMALL_DISK
    elif kind == "kill-leader":
        how = rng.choice(["meta", "SESSIONS-00", "KV_sf-leases"])
    elif kind == "one-way":
        how = rng.choice(["in", "out"])
    elif kind == "half-open":
        how = rng.choice(["both", "up", "down"])
    if kind == "loss":
        amount = rng.uniform(0.05, 0.4)
    elif kind == "latency":
        amount = rng.uniform(0.02, 0.4)
    elif kind == "clock":
        amount = rng.choice([-3600.0, -45.0, -3.0, 3.0, 45.0, 3600.0])
    return Step(kind, target, rng.uniform(0.5, 3.0), rng.uniform(shortest, longest), amount, how)
