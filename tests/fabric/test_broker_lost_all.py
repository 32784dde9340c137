"""What somebody has deleted at the broker, or the broker has lost, under processes that live: they go on."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing

import pytest
from session_fabric import Fabric, Session
from session_fabric.jetstream.operating import Operator
from session_fabric.rules.leases import STORES_WITHIN_S
from session_fabric.words.errors import BrokerUnavailable
from structlog.testing import capture_logs

from tests.fabric.test_agents import echo, ended, say, served
from tests.support.servers import NatsNode
from tests.support.waiting import eventually


def ada_of(fabric: Fabric, name: str) -> Session:
    return fabric.view(participant="user:ada").session(name)


def lose(node: NatsNode) -> None:
    """Kill a node, and lose its disk."""
    node.kill()
    for left in node.directory.iterdir():
        if left.is_dir():
            shutil.rmtree(left)


async def test_agents_answer_at_a_broker_that_lost_all_and_was_provisioned_again(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, participant="agent:writer", streams=2) as fabric, served(echo(fabric)):
        ada = ada_of(fabric, "chat")
        await ended(ada, await say(ada, "before", "q1"))
        lose(own_server)
        await own_server.restart()
        async with Operator.connected(own_server.url) as operator:
            await operator.provision(streams=2)
        await eventually(lambda: fabric.broker.connected)
        later = ada_of(fabric, "later")
        await ended(later, await say(later, "after", "q2"))


async def test_who_lived_through_it_and_who_came_later_count_offsets_alike(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, participant="service:old", streams=2) as old:
        await old.session("chat").append({"type": "app.note"})
        lose(own_server)
        await own_server.restart()
        async with Operator.connected(own_server.url) as operator:
            await operator.provision(streams=2)
        await eventually(lambda: old.broker.connected)
        made = (await old.session("anew").append({"type": "app.note"})).offset
        async with Fabric.connect(own_server.url, participant="service:young", provision=False) as young:
            with capture_logs() as logs:
                assert (await young.session("anew").append({"type": "app.note"})).offset.segment == made.segment
            assert [one for one in logs if one["event"] == "stream_was_made_anew"] == []


async def test_who_follows_at_a_broker_that_lost_all_says_so_once(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, participant="agent:writer", streams=2) as fabric:
        session = fabric.session("chat")
        await session.append({"type": "app.note"})
        async with aclosing(session.follow()) as events:
            assert [(await anext(events)).type for _ in range(2)] == ["session.created", "app.note"]
            following = asyncio.ensure_future(anext(events))
            await eventually(lambda: session._parts.common.pace.followers)
            lose(own_server)
            with capture_logs() as logs:
                await own_server.restart()
                await eventually(lambda: "follower_refused" in [one["event"] for one in logs])
                asked = own_server.monitor("/varz")["in_msgs"]
                await eventually(lambda: own_server.monitor("/varz")["in_msgs"] > asked + 6, 20)
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        said = [one["detail"] for one in logs if one["event"] == "follower_refused"]
        assert len(said) == len(set(said))


async def test_a_broker_whose_leases_are_gone_does_not_serve(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, participant="service:gateway", streams=2) as fabric:
        lease = fabric._shared.lease
        await lease.hold()
        lose(own_server)
        await own_server.restart()
        await eventually(lambda: fabric.broker.connected)
        lease._renewed -= STORES_WITHIN_S + 1
        with pytest.raises(BrokerUnavailable, match="stream not found") as refused:
            await fabric.check_served()
        assert "fabricctl doctor" in refused.value.hint
