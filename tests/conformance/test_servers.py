"""The servers under the suite are what it takes them for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers import NatsNode, nats_cluster
from tests.support.waiting import eventually


async def test_a_killed_server_comes_back_on_its_port(own_server: NatsNode) -> None:
    url = own_server.url
    own_server.kill()
    assert not own_server.alive
    await own_server.restart()
    assert own_server.url == url


@pytest.mark.cluster
async def test_a_cluster_that_lost_its_leader_elects_another_and_takes_it_back(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as cluster:
        leader = cluster.node(cluster.nodes[0].monitor("/jsz")["meta_cluster"]["leader"])
        leader.kill()
        others = [node for node in cluster.nodes if node is not leader]

        def elected() -> bool:
            metas = [node.monitor("/jsz")["meta_cluster"].get("leader") for node in others]
            return metas[0] == metas[1] and metas[0] in {node.name for node in others}

        await eventually(elected, 30)
        await cluster.restart()
        assert all(node.alive for node in cluster.nodes)
