"""An act whose confirmation was lost, and that is written down again for that, is there once."""

from __future__ import annotations

import asyncio

from session_fabric import Fabric

from tests.fabric.test_audit import acts, exported, told
from tests.support.link import link_to
from tests.support.servers import NatsNode
from tests.support.waiting import eventually


async def test_an_act_whose_confirmation_was_lost_is_told_once(shared_server: NatsNode, tenant: str) -> None:
    """Between the two tries an audit is exported, which the next one continues."""
    async with (
        link_to(shared_server.port) as link,
        Fabric.connect(f"nats://127.0.0.1:{link.port}", tenant=tenant, participant="operator:ann") as ann,
        Fabric.connect(shared_server.url, tenant=tenant, participant="operator:bob") as bob,
    ):
        link.swallow("down")
        holding = asyncio.create_task(ann.hold("Letter"))

        async def written() -> list[bytes]:
            lines = await exported(bob)
            return lines if acts(lines) else []

        first = await eventually(written)
        link.reset()
        link.mend()
        assert (await holding).name == "hold"
        second = await exported(bob, first)
    assert told(first, second) == [(None, "tenant.held")]
