"""The model: pure arithmetic from usage and unit costs to machines and money."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from bench.capacity.inputs import GB, MONTH_S, Machines, Prices, UnitCosts, Usage

# Sessions in each of 16 streams that held a million (`--measure`): opening one took twice what it takes among few.
_IN_A_STREAM: Final = 62_500


class Load(NamedTuple):
    """What comes at the peak, a second where that is not said."""

    connections: float
    answers: float
    tokens: float
    deliveries: float
    out_bytes: float
    between_bytes: float


class Brokers(NamedTuple):
    """Nodes, by what each kind of scarcity would have; the largest counts. Figures of one node."""

    nodes: int
    decided_by: str
    clusters: int
    streams: int
    memory: float
    disk: float
    cores: float


class Gateways(NamedTuple):
    """Processes of one core."""

    processes: int
    decided_by: str
    memory: float
    cores: float


class Money(NamedTuple):
    """A month."""

    brokers: float
    gateways: float
    disk: float
    out: float
    between: float

    @property
    def all(self) -> float:
        return sum(self)


class Capacity(NamedTuple):
    load: Load
    brokers: Brokers
    gateways: Gateways
    money: Money


def load(usage: Usage, costs: UnitCosts, machines: Machines) -> Load:
    watched = usage.sessions * usage.watched
    answers = watched * usage.answering
    tokens = answers * usage.tokens_per_s
    deliveries = tokens * usage.viewers
    out = deliveries * (usage.token_bytes + costs.wire_token + costs.wire_write)
    # To one gateway each (350 bytes with subject and headers), and to each other replica.
    between = tokens * (350 + usage.token_bytes) * machines.replicas
    return Load(watched * usage.viewers, answers, tokens, deliveries, out, between)


def brokers(usage: Usage, costs: UnitCosts, machines: Machines, come: Load) -> Brokers:
    copies = machines.replicas
    memory = usage.sessions * costs.session_memory * copies
    kept = usage.sessions * (
        costs.session_disk + usage.messages * (usage.message_bytes + costs.event_overhead) * costs.disk_slack
    )
    disk = (kept + come.tokens * (costs.answer_s + costs.token_kept_s) * costs.token_disk) * copies
    cores = come.tokens * (costs.broker_token_s + costs.broker_replica_s * (copies - 1))
    room = machines.node_memory * machines.used - costs.process_memory
    needs = {
        "replicas": float(copies),
        "memory": memory / room,
        "disk": disk / (machines.node_disk * machines.used),
        "processor": cores / (machines.node_cores * machines.used),
    }
    nodes = max(math.ceil(need - 1e-9) for need in needs.values())
    by_rate = come.tokens / machines.stream_messages_per_s
    # Sixteen: a session's events are in few blocks of each (docs/sizing.md). No stream has more of them than ours had.
    streams = max(16, _power_of_two(by_rate / machines.used), _power_of_two(usage.sessions / _IN_A_STREAM))
    return Brokers(
        nodes,
        _most(needs),
        math.ceil(nodes / machines.cluster_nodes),
        streams,
        memory / nodes + costs.process_memory,
        disk / nodes,
        cores / nodes,
    )


def gateways(usage: Usage, costs: UnitCosts, machines: Machines, come: Load) -> Gateways:
    memory = come.connections * costs.connection_memory + usage.sessions * usage.watched * costs.feed_memory
    cores = come.tokens * costs.gateway_token_s + max(0.0, come.deliveries - come.tokens) * costs.gateway_viewer_s
    needs = {
        "connections": come.connections / machines.gateway_connections,
        "memory": memory / (machines.gateway_memory * machines.used - costs.process_memory),
        "processor": cores / (machines.gateway_cores * machines.used),
    }
    # One more than is needed: one of them is being replaced at times.
    processes = max(1, *(math.ceil(need - 1e-9) for need in needs.values())) + 1
    return Gateways(processes, _most(needs), memory / processes + costs.process_memory, cores / processes)


def money(usage: Usage, come: Load, nodes: Brokers, doors: Gateways, prices: Prices) -> Money:
    mean = usage.mean_of_peak * MONTH_S / GB
    stored = usage.sessions * usage.new_a_month * usage.messages * usage.message_bytes / GB
    return Money(
        nodes.nodes * prices.node_month,
        doors.processes * prices.gateway_month,
        nodes.nodes * nodes.disk / GB * prices.disk_gb_month,
        (come.out_bytes * mean + stored) * prices.out_gb,
        come.between_bytes * mean * prices.between_gb,
    )


def capacity(
    usage: Usage,
    costs: UnitCosts | None = None,
    machines: Machines | None = None,
    prices: Prices | None = None,
) -> Capacity:
    """Return what it takes. Everything that is left out is as measured, or as its class says."""
    costs, machines, prices = costs or UnitCosts(), machines or Machines(), prices or Prices()
    come = load(usage, costs, machines)
    nodes = brokers(usage, costs, machines, come)
    doors = gateways(usage, costs, machines, come)
    return Capacity(come, nodes, doors, money(usage, come, nodes, doors, prices))


def _most(needs: dict[str, float]) -> str:
    return max(needs, key=needs.__getitem__)


def _power_of_two(need: float) -> int:
    return 1 << max(0, math.ceil(math.log2(need))) if need > 0 else 1
