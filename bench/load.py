"""The load: stored deltas as a run writes them, and one burst of them on either side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from session_fabric.ports import Stretch
from session_fabric.words.subjects import Place

from bench.sockets import MARK, Publisher, Side, publication
from bench.stage import Cost, Stage
from bench.viewers import Viewers

AGENT = "agent:writer"
TEXT = MARK.decode()
_TOKEN = f"{TEXT} token"


def delta(to: Stretch, run: str, number: int, text: str, at: int) -> bytes:
    """Spell one stored text delta (docs/protocol.md section 8)."""
    headers = {
        "Nats-Msg-Id": f"{to.place.session}.{run}.{number}",
        "Sf-Type": "TEXT_MESSAGE_CONTENT",
        "Sf-Delta": f"{at} msg-{run}",
    }
    return publication(to.place.stored("tok", run, AGENT), headers, b'"%b"' % text.encode())


def burst(stretches: Mapping[str, Stretch], each: int, run: str) -> list[bytes]:
    """Return `each` deltas a session, sessions taking turns."""
    return [delta(to, run, n, _TOKEN, n * len(_TOKEN)) for n in range(each) for to in stretches.values()]


def targets(side: Side, sessions: list[str]) -> list[str]:
    """Return what viewers of these sessions ask each side for."""
    return [Place("default", name).live_filter() for name in sessions] if side == "listener" else sessions


@dataclass(frozen=True)
class Rate:
    """One burst: delivered events a second, what it took, and what makes it worth nothing."""

    events_per_s: float
    bytes_per_event: float
    cost: Cost
    fault: str


def run_burst(
    stage: Stage, side: Side, stretches: Mapping[str, Stretch], viewers_each: int, each: int, run: str
) -> Rate:
    """Publish a burst into sessions and see it through to the last viewer."""
    names = [name for name in stretches for _ in range(viewers_each)]
    messages = burst(stretches, each, run)
    stage.serve(side)
    with Viewers(side, stage.port_of(side), targets(side, names), each) as viewers:
        publisher = Publisher(stage.nats_port)
        begun = stage.usage()
        began = time.time()
        publisher.publish(messages)
        seen = viewers.result()
        cost = stage.cost(begun, seen.cpu_s, seen.last - began)
        publisher.close()
    fault = f"{seen.wrong} of {len(names)} viewers had too few or too many events" if seen.wrong else ""
    return Rate(seen.events / cost.wall_s, seen.bytes / max(1, seen.events), cost, fault)
