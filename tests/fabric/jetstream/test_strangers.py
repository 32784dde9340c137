"""What somebody else keeps at the broker under names or subjects of ours: it is named, and left as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from session_fabric import AgentRun, Fabric
from session_fabric.deadlines import NAME
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.durable import consumer_config, consumer_name
from session_fabric.jetstream.operating import Operator
from session_fabric.jetstream.strangers import strangeness
from session_fabric.offboarding import delete_tenant
from session_fabric.ports import Wanted
from session_fabric.words.errors import BrokerIncompatible
from session_fabric.worker import durable_of
from structlog.testing import capture_logs

from tests.fabric.test_agents import ended, say, served
from tests.support.servers import NatsNode
from tests.support.sessions import said
from tests.support.waiting import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsNode]:
    node = NatsNode(tmp_path)
    node.start()
    node.wait()
    yield node
    node.kill()


@pytest.fixture
async def operator(server: NatsNode) -> AsyncIterator[Operator]:
    async with Operator.connected(server.url) as connected:
        yield connected


async def make(operator: Operator, **config: Any) -> dict[str, Any]:
    """Make a stream as a stranger does."""
    await operator._api.call(f"STREAM.CREATE.{config['name']}", config)
    return await config_of(operator, config["name"])


async def config_of(operator: Operator, name: str) -> dict[str, Any]:
    return dict((await operator.infos())[name]["config"])


@pytest.mark.parametrize("name", ["SESSIONS-01", "SF-BLOBS", "KV_sf-state"])
async def test_a_strangers_stream_of_our_name_is_named_and_left_alone(
    server: NatsNode, operator: Operator, name: str
) -> None:
    theirs = await make(operator, name=name, subjects=["orders.>"])
    said = f"The stream {name} is somebody else's: it keeps orders.>."
    for _ in range(2):
        with pytest.raises(BrokerIncompatible, match=said):
            await operator.provision(streams=2)
        with pytest.raises(BrokerIncompatible, match=said):
            await JetStreamBroker.connect(server.url, streams=2)
        assert await config_of(operator, name) == theirs


async def test_a_strangers_stream_in_the_place_of_one_of_ours_is_found_and_not_mended(operator: Operator) -> None:
    await operator.provision(streams=2)
    await operator._api.call("STREAM.DELETE.SESSIONS-01")
    theirs = await make(operator, name="SESSIONS-01", subjects=["orders.>"])
    found = [one for one in await operator.check() if one.where == "SESSIONS-01"]
    assert [one.what for one in found] == ["It is somebody else's: it keeps orders.>."]
    await operator.repair(found)
    assert await config_of(operator, "SESSIONS-01") == theirs


async def test_a_stream_that_takes_our_subjects_is_named(server: NatsNode, operator: Operator) -> None:
    await make(operator, name="ORDERS", subjects=["sf.>"])
    with pytest.raises(BrokerIncompatible) as refused:
        await operator.provision(streams=1)
    assert "cannot make the stream SESSIONS-00: ORDERS takes sf." in refused.value.message
    assert "subjects of its own" in refused.value.hint


async def test_a_bucket_that_a_stranger_filled_is_changed_by_nobody_unasked(operator: Operator) -> None:
    bucket = {"name": "KV_sf-sessions", "subjects": ["$KV.sf-sessions.>"], "max_msgs_per_subject": 5}
    theirs = await make(operator, **bucket, allow_direct=True)
    await operator._requests.one("$KV.sf-sessions.theirs", b"old", timeout_s=5)
    with pytest.raises(BrokerIncompatible, match="KV_sf-sessions: allow_msg_ttl is False") as refused:
        await operator.provision(streams=1)
    assert "stream repair" in refused.value.hint
    assert await config_of(operator, "KV_sf-sessions") == theirs
    assert all(not one.safe for one in await operator.check() if one.where == "KV_sf-sessions")


# --- consumers ------------------------------------------------------------------------------------

INBOX = consumer_name("t", durable_of("default"), None)


async def consume(operator: Operator, name: str = INBOX, **changes: Any) -> None:
    """Make a consumer as a stranger does, who has seen one of ours."""
    config = consumer_config(name, "t", None, [Wanted("in", "default")], 30.0, -1, "start") | changes
    body = {"stream_name": "SESSIONS-00", "config": config, "action": "create"}
    await operator._api.call(f"CONSUMER.CREATE.SESSIONS-00.{name}", body)


async def forget(operator: Operator, name: str = INBOX) -> None:
    await operator._api.call(f"CONSUMER.DELETE.SESSIONS-00.{name}")


@pytest.fixture
async def fabric(server: NatsNode) -> AsyncIterator[Fabric]:
    async with Fabric.connect(server.url, tenant="t", participant="operator:ann", streams=1) as connected:
        yield connected


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ack_policy": "none"}, "ack_policy is 'none'"),
        ({"ack_policy": "all"}, "ack_policy is 'all'"),
        ({"deliver_subject": "orders"}, "deliver_subject is 'orders'"),
        ({"headers_only": True}, "headers_only is True"),
        ({"max_deliver": 1}, "max_deliver is 1"),
        ({"max_batch": 1}, "max_batch is 1"),
        ({"metadata": {}}, "its metadata is not ours"),
        ({"filter_subjects": ["sf.ev.*.t.*.*.*"]}, "is there with other filters"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_an_agent_does_not_work_on_what_a_strangers_consumer_hands_out(
    fabric: Fabric, operator: Operator, change: dict[str, Any], told: str
) -> None:
    answered: list[str] = []

    @fabric.agent()
    async def agent(run: AgentRun) -> None:
        answered.append(run.input.text)

    await fabric.session("chat-1").append(said("Hello"))
    await consume(operator, **change)
    with pytest.raises(BrokerIncompatible, match=told):
        await agent.serve()
    await forget(operator)
    async with served(agent):
        await eventually(lambda: answered == ["Hello"])


def test_a_subscription_on_all_tenants_may_be_handed_out_as_often_as_who_opens_it_says() -> None:
    name = consumer_name(None, "theirs", None)
    config = consumer_config(name, None, None, [], 30.0, 5, "start") | {"replay_policy": "instant"}
    assert strangeness(name, config) == []
    assert strangeness(consumer_name(None, NAME, None), config) == ["max_deliver is 5"]


async def test_an_agent_whose_inbox_is_deleted_or_becomes_a_strangers_says_so(
    server: NatsNode, fabric: Fabric, operator: Operator
) -> None:
    ada = fabric.view(participant="user:ada").session("chat")

    @fabric.agent()
    async def agent(run: AgentRun) -> None: ...

    with capture_logs() as logs:

        def told() -> set[str]:
            return {entry["detail"] for entry in logs if entry["event"] == "inbox_failed"}

        async with served(agent):
            await eventually(lambda: fabric.broker.bucket("sf-leases").entries("t"))
            # Also of who was cut off meanwhile: it was there when they were back.
            server.kill()
            await server.restart()
            for n in range(2):
                await ended(ada, await say(ada, "Hello", f"q{n}"))
            await forget(operator)
            await eventually(lambda: f"The subscription {INBOX} was deleted." in told())
            await consume(operator, deliver_subject="orders")
            await eventually(lambda: any("deliver_subject is 'orders'" in one for one in told()))


async def test_deadlines_that_a_strangers_consumer_would_lose_are_told_of(fabric: Fabric, operator: Operator) -> None:
    await consume(operator, consumer_name(None, NAME, None), max_deliver=1, filter_subjects=["sf.ev.>"])
    with capture_logs() as logs:
        await fabric.watch_over()
        await eventually(lambda: any("with other filters" in entry.get("detail", "") for entry in logs))


async def test_what_a_stranger_has_made_for_a_tenant_goes_with_it(fabric: Fabric, operator: Operator) -> None:
    await consume(operator, metadata={})
    proof = await delete_tenant(fabric)
    assert (proof.before, proof.remains) == ({"subscriptions": 1}, {})
