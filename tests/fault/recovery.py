"""Until when a fault explains that a reader gets nothing. Pure; each bound says where it comes from."""

from __future__ import annotations

from typing import Final

from tests.fault import schedule
from tests.fault.history import Fault

NODES: Final = frozenset(schedule.NODES)
GATEWAYS: Final = frozenset(schedule.GATEWAYS)

# A group without a leader has one within 4 to 9 s (nats-server, raft.go: minElectionTimeout, maxElectionTimeout).
_ELECTION_S: Final = 9.0
# A node that is stopped in good order hands its groups on: 1 s was measured, and followers look for what the live path
# lost once a second (fabric, follow.py: BUSY_CHECK_S).
_HANDED_ON_S: Final = 2.0
# Clients of gateways dial again after 3 s at most (clients/typescript, backoff.ts; tests/support/crowd.py)
_REDIAL_S: Final = 3.0
# and leave after 5 s a dial that nobody has answered (client.ts: greetMs; crowd.py).
_GREET_S: Final = 5.0
# The SDK finds a silent connection dead when two pings, each 3 s behind the one before, have no answer (dial.py), and
# whoever is refused asks again within 2 s.
_PINGS_S: Final = 9.0
_SDK_REDIAL_S: Final = 2.0
# What is under way on a slow link has 0.4 s and half as much again to go, twice: a question and its answer.
_LATE_S: Final = 1.2
# Half a second to be told of it, half to be put right: of a machine that stood still, of a connection that was broken.
_MOMENT_S: Final = 1.0

# A node is gone: its groups elect from then on, whether it comes back or not.
_GONE: Final = frozenset({"kill", "kill-leader", "lost-data"})
_IN_ORDER: Final = frozenset({"stop", "rolling"})
# A node that was cut off comes back in a later term, and has the others elect anew. Of a full disk it is not known
# when the node lost its groups.
_STRAYED: Final = frozenset({"freeze", "partition", "one-way", "loss", "full-disk"})
# Whoever dials is refused at once; or has no answer.
_REFUSED: Final = frozenset({"kill", "stop", "refuse", "reset"})
_HUNG: Final = frozenset({"freeze", "partition", "one-way", "loss", "half-open", "slow-reader"})


def explains_until(fault: Fault, reader: str) -> float | None:
    """Return until when a fault explains a pause of whoever reads at a host; None: it explains none.

    Its own faults, its gateways' and the brokers' do. Somebody else who writes is always there, so that what is done
    to one writer explains nothing.
    """
    if fault.kind == "clock":
        return None  # whose clock is wrong gets everything at its time
    if fault.kind == "stall":
        # One that is as long as the shortest election makes leaders be taken for gone.
        return fault.over + (_ELECTION_S if fault.over - fault.begun >= 4.0 else 0.0) + _MOMENT_S
    if fault.target in NODES:
        return _node_until(fault)
    if reader.startswith("b"):
        return _dialled_until(fault) if fault.target == reader or fault.target in GATEWAYS else None
    return _connected_until(fault) if fault.target == reader else None


def found_until(fault: Fault) -> float:
    """Return until when a fault of others explains that nobody has found out yet what it hides."""
    return _node_until(fault) if fault.target in NODES else max(_dialled_until(fault), _connected_until(fault))


def _node_until(fault: Fault) -> float:
    if fault.kind in _GONE:
        return max(fault.over, fault.begun + _ELECTION_S) + _MOMENT_S
    if fault.kind in _IN_ORDER:
        return fault.over + _HANDED_ON_S
    if fault.kind in _STRAYED:
        return fault.over + _ELECTION_S + _MOMENT_S
    raise AssertionError(f"a node's {fault.kind} has no bound")


def _dialled_until(fault: Fault) -> float:
    """Of who comes through a gateway: it or the gateway was harmed."""
    if fault.kind in _REFUSED:
        return fault.over + _REDIAL_S
    if fault.kind in _HUNG:
        return fault.over + _GREET_S + _REDIAL_S
    return _slow_until(fault)


def _connected_until(fault: Fault) -> float:
    """Of who is at the broker itself: it was harmed."""
    if fault.kind in _REFUSED:
        return fault.over + _SDK_REDIAL_S
    if fault.kind in _HUNG:
        return max(fault.over, fault.begun + _PINGS_S) + _SDK_REDIAL_S
    return _slow_until(fault)


def _slow_until(fault: Fault) -> float:
    if fault.kind == "latency":
        return fault.over + _LATE_S
    if fault.kind in ("clock", "stall"):
        return fault.over + _MOMENT_S
    raise AssertionError(f"{fault.kind} has no bound")
