"""The load: stored deltas as a run writes them, and one burst or stream of them on either side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from session_fabric.ports import Stretch
from session_fabric.words.subjects import Place

from bench.sockets import Publisher, Side, publication
from bench.stage import Stage
from bench.viewers import Viewers

AGENT = "agent:writer"
_TOKEN = " token"


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
    text = "~" + _TOKEN
    return [delta(to, run, n, text, n * len(text)) for n in range(each) for to in stretches.values()]


def live_subject(session: str) -> str:
    return Place("default", session).live_filter()


@dataclass(frozen=True)
class Rate:
    """One side's burst: delivered events a second, and the processor's seconds of gateway and broker."""

    events_per_s: float
    gateway_cpu_s: float
    broker_cpu_s: float
    lost: int


def run_burst(
    stage: Stage, side: Side, stretches: Mapping[str, Stretch], viewers_each: int, each: int, run: str
) -> Rate:
    """Publish a burst into sessions and see it through to the last viewer."""
    names = [name for name in stretches for _ in range(viewers_each)]
    targets = names if side == "gateway" else [live_subject(name) for name in names]
    port = stage.gateway_port if side == "gateway" else stage.listener_port
    expect = len(names) * each
    messages = burst(stretches, each, run)
    with Viewers(side, port, targets, expect) as viewers:
        publisher = Publisher(stage.nats_port)
        before = stage.cpu_s()
        began = time.time()
        publisher.publish(messages)
        seen = viewers.result()
        after = stage.cpu_s()
        publisher.close()
    took_s = seen.last - began
    return Rate(seen.events / took_s, after[0] - before[0], after[1] - before[1], max(0, expect - seen.events))
