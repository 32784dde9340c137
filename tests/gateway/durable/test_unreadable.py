"""What a gateway does with an entry among subscriptions that it cannot read."""

from __future__ import annotations

from pathlib import Path

from session_fabric import Fabric
from session_fabric.streams.subscribed import BUCKET, key_of

from tests.gateway.processes import gateway_process
from tests.support.servers import NatsNode
from tests.support.waiting import eventually


async def test_it_is_passed_over_at_the_start_and_when_it_is_heard_of(own_server: NatsNode, tmp_path: Path) -> None:
    async with Fabric.connect(own_server.url, participant="operator:ann", streams=1) as fabric:
        bucket = fabric.broker.bucket(BUCKET)
        await bucket.put(key_of("acme", "before"), b'{"of": "a later version"}')
        async with gateway_process(own_server.url, tmp_path, "--insecure") as gateway:
            await bucket.put(key_of("acme", "after"), b'{"of": "a later version"}')
            for name in ("before", "after"):
                await eventually(lambda name=name: key_of("acme", name) in gateway.log.read_text())
            assert gateway.log.read_text().count("subscription_unreadable") == 2
