"""What the model is told: how sessions are used, what things cost in machine, what machine costs in money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
GIB: Final = 1024**3
GB: Final = 1e9
MONTH_S: Final = 730 * 3600


class WrongInput(ValueError):
    """A figure with which there is nothing to compute. The text names it, and what it may be."""


@dataclass(frozen=True)
class Usage:
    """How sessions are used. Shares are of those before them; the peak is what is provided for."""

    sessions: float
    messages: float = 20
    message_bytes: float = 1000
    # Sessions that somebody looks at in the busiest minute, and how many look at each.
    watched: float = 0.02
    viewers: float = 1.2
    # Watched sessions in which an answer is being written, and how fast.
    answering: float = 0.1
    tokens_per_s: float = 30
    token_bytes: float = 5
    # What an hour of the whole month has, against the busiest.
    mean_of_peak: float = 0.3
    # Sessions that are new in a month, as a share of those kept: how often what is kept is replaced.
    new_a_month: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise WrongInput(f"{name} is {value!r}: it must be a number from 0 on")
        for name in ("watched", "answering", "mean_of_peak"):
            if getattr(self, name) > 1:
                raise WrongInput(f"{name} is {getattr(self, name)!r}: it is a share, from 0 to 1")
        if self.sessions < 1:
            raise WrongInput(f"sessions is {self.sessions!r}: there must be one at least")


@dataclass(frozen=True)
class UnitCosts:
    """What things cost, as measured (docs/sizing.md; the rows of `python -m bench` are named)."""

    session_memory: float = 3.4 * KIB  # `sizing`: broker, each replica
    session_disk: float = 790  # `sizing`
    event_overhead: float = 250  # subject, headers, record: computed from `sizing`
    disk_slack: float = 1.2  # blocks that are not full, and compaction
    token_disk: float = 188  # `sizing`
    token_kept_s: float = 10  # after its run; an answer takes half a minute beside
    answer_s: float = 30
    connection_memory: float = 21 * KIB  # `idle`: gateway
    feed_memory: float = 21 * KIB  # `idle`: gateway, each session that is followed
    gateway_token_s: float = 55e-6  # `tokens`: processor for a token, and its first viewer
    gateway_viewer_s: float = 2e-6  # `fanout`: each viewer more; at low rates nothing is joined
    broker_token_s: float = 55e-6  # `tokens`: one replica
    broker_replica_s: float = 20e-6  # 97 against 77 k/s of one and three replicas, and what a follower writes
    wire_token: float = 18.5 + 4  # `tokens`, and the frame
    wire_write: float = 75  # TCP and TLS of each write
    process_memory: float = 150e6  # a gateway or a broker with nothing in it


@dataclass(frozen=True)
class Machines:
    """What there is of a machine, and how much of it is to be used in the busiest minute."""

    node_cores: float = 8
    node_memory: float = 32 * GIB
    node_disk: float = 2000 * GB
    gateway_cores: float = 1
    gateway_connections: float = 10_000
    gateway_memory: float = 4 * GIB
    used: float = 0.6
    replicas: int = 3
    # A stream has one leader, which writes in one order.
    stream_messages_per_s: float = 20_000
    # More in one cluster than this is not our experience: several clusters, or accounts, beyond.
    cluster_nodes: int = 9


@dataclass(frozen=True)
class Prices:
    """Money, in one currency. AWS, us-east-1, list prices on demand, June 2026, US dollars.

    Nodes are m7g.2xlarge, gateways a share of the same by vCPU (m7g.large: 0.0816 an hour for two), disks gp3,
    traffic out to the Internet in its first ten terabytes, and between zones both ways.
    """

    node_month: float = 0.3264 * 730
    gateway_month: float = 0.0408 * 730
    disk_gb_month: float = 0.08
    out_gb: float = 0.09
    between_gb: float = 0.02
    currency: str = "USD"
