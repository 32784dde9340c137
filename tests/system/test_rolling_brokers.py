"""Three brokers that are restarted one after the other, under live runs and clients: nobody has to come back."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from session_fabric import Fabric

from tests.support.crowd import Crowd
from tests.support.rolling import gateways, logs, speakers
from tests.support.servers import NatsNode, nats_cluster
from tests.support.waiting import eventually
from tests.system.speakers import session, word
from tests.system.test_rolling_gateways import notes

SESSIONS = 4
EACH = 5
# nats-server takes no shorter duration; it ends when the last client has gone, a second or so each.
LAME_DUCK = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"'


async def end(node: NatsNode, how: str) -> None:
    """Have a node end, and wait until it has."""
    if how == "lame duck":
        node.send(signal.SIGUSR2)  # what `nats-server --signal ldm` sends
        await eventually(lambda: not node.alive, 60)
    else:
        await asyncio.to_thread(node.stop)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["lame duck", "stop"])
async def test_restarting_every_broker_under_live_runs_loses_nothing_and_doubles_nothing(
    tmp_path: Path, how: str
) -> None:
    sessions = [session(number) for number in range(SESSIONS)]
    async with nats_cluster(tmp_path / "nats", config=LAME_DUCK) as cluster:
        async with Fabric.connect(cluster.url, streams=2, timeout_s=60.0):
            pass  # few streams are made quickly
        async with (
            gateways(cluster.url, tmp_path, "--drain", "1") as some,
            speakers(cluster.url, SESSIONS, 10) as all_,
        ):
            crowd = Crowd(some.balancer.port, sessions, EACH, present=1)
            try:
                await crowd.start()
                writing = asyncio.create_task(notes(crowd))
                for node in cluster.nodes:
                    await end(node, how)
                    node.start()
                    # `healthy` is said when each replica that the node has is current: only then comes the next.
                    await eventually(cluster.healthy, 90)
                writing.cancel()
                said = await all_.quiet()
                for _ in range(2):  # what was under way when the first look was taken is in the second
                    stored = await logs(cluster.url, SESSIONS)
                    await crowd.all_have({name: offsets[-1] for name, offsets in stored.items()}, 60)
                assert crowd.faults() == []
                assert crowd.compared(stored) == []
            finally:
                await crowd.stop()
            # The gateways are there all the while: no client had to go.
            assert crowd.pauses() == []
            async with Fabric.connect(cluster.url, tenant="default", participant="user:u0", timeout_s=60.0) as fabric:
                for number in range(SESSIONS):
                    page = await fabric.session(session(number)).messages()
                    texts = [m.content for m in page.messages if m.role == "assistant"]
                    assert texts == ["".join(word(n) for n in range(said[number]))]
            await all_.end()
