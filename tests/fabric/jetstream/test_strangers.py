"""What somebody else keeps at the broker under names or subjects of ours: it is named, and left as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.operating import Operator
from session_fabric.words.errors import BrokerIncompatible

from tests.support.servers import NatsNode


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
