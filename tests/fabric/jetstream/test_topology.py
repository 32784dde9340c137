"""What the fabric makes at a broker, and what it refuses to work with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from session_fabric.jetstream.api import ApiError
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.dial import shown
from session_fabric.jetstream.operating import Operator
from session_fabric.jetstream.streams import STREAMS, breaches, bucket_stream, check_version, differences, log_stream
from session_fabric.ports import BUCKETS
from session_fabric.rules.layout import even
from session_fabric.rules.versions import FORMAT, Mark, newest_mark
from session_fabric.words.errors import (
    BrokerIncompatible,
    BrokerTooOld,
    BrokerUnavailable,
    FormatTooNew,
    InvalidRequest,
)
from session_fabric.words.subjects import SHARDS, Place, shard
from session_fabric.words.version import VERSION

from tests.support.servers import NatsNode, free_port, nats_node
from tests.support.waiting import eventually


@pytest.fixture
async def server(own_server: NatsNode) -> NatsNode:
    return own_server


@pytest.fixture
async def provisioned(server: NatsNode) -> AsyncIterator[JetStreamBroker]:
    broker = await JetStreamBroker.connect(server.url, streams=2)
    yield broker
    await broker.close()


async def every_stream(broker: JetStreamBroker) -> dict[str, dict[str, Any]]:
    page = await broker.api.call("STREAM.LIST", {"offset": 0})
    return {info["config"]["name"]: info for info in page["streams"]}


async def test_provisioning_makes_streams_blobs_and_buckets(provisioned: JetStreamBroker) -> None:
    streams = await every_stream(provisioned)
    assert set(streams) == {"SESSIONS-00", "SESSIONS-01", "SF-BLOBS", *(f"KV_{name}" for name in BUCKETS)}
    assert {info["config"]["storage"] for info in streams.values()} == {"file"}


async def test_provisioning_again_changes_nothing(provisioned: JetStreamBroker) -> None:
    before = await every_stream(provisioned)
    # Another number of streams counts only when they are made.
    again = await JetStreamBroker.connect(provisioned.url, streams=8)
    assert len(again.topology.streams) == 2
    assert again.topology.streams == provisioned.topology.streams
    await again.close()
    assert {n: i["config"] for n, i in (await every_stream(provisioned)).items()} == {
        n: i["config"] for n, i in before.items()
    }


async def test_many_connections_that_provision_at_once_agree(server: NatsNode) -> None:
    brokers = await asyncio.gather(*(JetStreamBroker.connect(server.url, streams=4) for _ in range(6)))
    assert len({tuple(b.topology.streams) for b in brokers}) == 1
    for broker in brokers:
        await broker.close()


async def test_two_processes_that_provision_at_once_agree(server: NatsNode) -> None:
    code = (
        "import asyncio, sys\n"
        "from session_fabric.jetstream.broker import JetStreamBroker\n"
        "async def main():\n"
        "    broker = await JetStreamBroker.connect(sys.argv[1], streams=4)\n"
        "    print(broker.topology.streams)\n"
        "    await broker.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, server.url, stdout=asyncio.subprocess.PIPE)
        for _ in range(2)
    ]
    told = [(await process.communicate())[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert told[0] == told[1] != b""


async def test_each_session_has_its_home_by_its_shard(provisioned: JetStreamBroker) -> None:
    seen = set()
    for n in range(64):
        place = Place("t", f"chat-{n}")
        home = provisioned.topology.home(place)
        assert home.stream == f"SESSIONS-{shard(*place) * 2 // SHARDS:02d}"
        seen.add(home.stream)
    assert seen == {"SESSIONS-00", "SESSIONS-01"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"allow_direct": False}, "allow_direct is False, must be True"),
        ({"max_age": 3_600_000_000_000}, "max_age is 3600000000000, must be 0"),
        ({"max_msgs_per_subject": 1}, "max_msgs_per_subject is 1, must be -1"),
        ({"republish": None}, "republish is"),
        ({"allow_rollup_hdrs": True}, "allow_rollup_hdrs is True, must be False"),
        ({"no_ack": True}, "no_ack is True, must be False"),
        ({"subject_transform": {"src": ">", "dest": "theirs.>"}}, "subject_transform is"),
        ({"sealed": True}, "sealed is True, must be False"),
    ],
)
async def test_a_stream_that_was_changed_is_refused_and_the_setting_named(
    provisioned: JetStreamBroker, change: dict[str, Any], named: str
) -> None:
    config = (await provisioned.api.call("STREAM.INFO.SESSIONS-01"))["config"] | change
    await provisioned.api.call("STREAM.UPDATE.SESSIONS-01", {k: v for k, v in config.items() if v is not None})
    for provision in (True, False):
        with pytest.raises(BrokerIncompatible) as refused:
            await JetStreamBroker.connect(provisioned.url, provision=provision)
        assert named in refused.value.message
        assert "SESSIONS-01" in refused.value.message
        assert "fabricctl stream repair" in refused.value.hint


async def test_a_stream_that_lost_its_sign_is_found_by_its_name(provisioned: JetStreamBroker) -> None:
    config = (await provisioned.api.call("STREAM.INFO.SESSIONS-01"))["config"] | {"metadata": {"other": "x"}}
    await provisioned.api.call("STREAM.UPDATE.SESSIONS-01", config)
    broker = await JetStreamBroker.connect(provisioned.url, streams=2)
    assert broker.topology.streams == provisioned.topology.streams
    await broker.close()


async def test_streams_that_all_lost_their_signs_are_found_by_their_names_and_subjects(
    provisioned: JetStreamBroker,
) -> None:
    # As tools do that write a stream's configuration anew from a file of theirs.
    for name in ("SESSIONS-00", "SESSIONS-01"):
        config = (await provisioned.api.call(f"STREAM.INFO.{name}"))["config"] | {"metadata": {}}
        await provisioned.api.call(f"STREAM.UPDATE.{name}", config)
    for provision in (True, False):
        broker = await JetStreamBroker.connect(provisioned.url, provision=provision)
        assert broker.topology.streams == provisioned.topology.streams
        await broker.close()
    async with Operator.connected(provisioned.url) as operator:
        assert await operator.check() == []
        assert len((await operator.provision()).lodgings) == 2


async def test_a_strangers_stream_on_our_subjects_is_refused(server: NatsNode) -> None:
    broker = await JetStreamBroker.connect(server.url, streams=1)
    await broker.api.call("STREAM.DELETE.SESSIONS-00")
    await broker.api.call("STREAM.CREATE.THEIRS", {"name": "THEIRS", "subjects": ["sf.>"]})
    await broker.close()
    with pytest.raises(BrokerIncompatible) as refused:
        await JetStreamBroker.connect(server.url, streams=1)
    assert "SESSIONS-00" in refused.value.message


async def test_a_bucket_that_was_changed_is_refused(provisioned: JetStreamBroker) -> None:
    config = (await provisioned.api.call("STREAM.INFO.KV_sf-sessions"))["config"] | {"max_msgs_per_subject": 5}
    await provisioned.api.call("STREAM.UPDATE.KV_sf-sessions", config)
    with pytest.raises(BrokerIncompatible) as refused:
        await JetStreamBroker.connect(provisioned.url)
    assert "KV_sf-sessions" in refused.value.message


async def test_what_an_operator_may_choose_is_left_alone(provisioned: JetStreamBroker) -> None:
    config = (await provisioned.api.call("STREAM.INFO.SESSIONS-00"))["config"]
    config |= {"max_bytes": 1 << 30, "description": "ours", "duplicate_window": 60_000_000_000, "compression": "s2"}
    await provisioned.api.call("STREAM.UPDATE.SESSIONS-00", config)
    broker = await JetStreamBroker.connect(provisioned.url)
    await broker.close()


async def test_without_leave_to_provision_what_is_missing_is_named(server: NatsNode) -> None:
    with pytest.raises(BrokerIncompatible) as refused:
        await JetStreamBroker.connect(server.url, provision=False)
    assert "fabricctl stream provision" in refused.value.hint
    broker = await JetStreamBroker.connect(server.url, streams=1)
    await broker.api.call("STREAM.DELETE.KV_sf-leases")
    with pytest.raises(BrokerIncompatible) as refused:
        await JetStreamBroker.connect(server.url, provision=False)
    assert "KV_sf-leases" in refused.value.message
    await broker.close()


async def test_a_number_of_streams_that_cannot_share_the_shards_is_refused() -> None:
    for streams in (0, 3, 512, -1):
        with pytest.raises(InvalidRequest):
            await JetStreamBroker.connect("nats://127.0.0.1:1", streams=streams)


async def test_a_broker_without_jetstream_is_refused_and_says_why(tmp_path: Any) -> None:
    async with nats_node(tmp_path / "nats", config="jetstream: disabled") as node:
        with pytest.raises((BrokerUnavailable, BrokerIncompatible)) as refused:
            await JetStreamBroker.connect(node.url, timeout_s=1.0)
        assert "JetStream" in str(refused.value)


async def test_where_nobody_listens_the_broker_is_unavailable() -> None:
    with pytest.raises(BrokerUnavailable) as refused:
        await JetStreamBroker.connect(f"nats://user:secret@127.0.0.1:{free_port()}", timeout_s=0.5)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("version", ["2.11.99", "2.9.0", "1.4.1"])
def test_a_broker_that_is_too_old_is_refused_with_its_version(version: str) -> None:
    with pytest.raises(BrokerTooOld) as refused:
        check_version(version, "nats://here")
    assert version in refused.value.message


@pytest.mark.parametrize("version", ["2.12.0", "2.12.0-RC.3", "2.15.1", "3.0.0"])
def test_a_broker_that_is_new_enough_is_taken(version: str) -> None:
    check_version(version, "nats://here")


def test_a_stream_as_we_make_it_has_no_differences() -> None:
    config = log_stream(even(16).lodgings[0], 16, 1)
    assert differences(config, config) == []
    assert differences(config | {"max_consumers": -1}, config) == ["max_consumers is -1, must be a positive number"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"duplicate_window": 60_000_000_000}, "duplicate_window is 60000000000, must be 120000000000 or more"),
        ({"max_msg_size": 512 * 1024}, "max_msg_size is 524288, must be -1, or 1048576 or more"),
        ({"subject_delete_marker_ttl": 1}, "subject_delete_marker_ttl is 1, must be 0"),
        ({"consumer_limits": {"max_ack_pending": 1}}, "consumer_limits is {'max_ack_pending': 1}, must be {}"),
        ({"deny_delete": True}, "deny_delete is True, must be False"),
    ],
)
def test_what_breaks_a_promise_is_named_and_keeps_nobody_from_working(change: dict[str, Any], named: str) -> None:
    config = log_stream(even(16).lodgings[0], 16, 1)
    assert breaches(config, config) == []
    assert breaches(config | change, config) == [named]
    assert differences(config | change, config) == []


def test_more_than_what_is_promised_breaks_nothing() -> None:
    config = log_stream(even(16).lodgings[0], 16, 1)
    assert breaches(config | {"duplicate_window": 10**12, "max_msg_size": 1 << 21}, config) == []
    bucket = bucket_stream("sf-leases", 1)
    assert breaches(bucket, bucket) == []


async def test_a_stream_that_is_gone_keeps_nobody_from_the_sessions_of_others(provisioned: JetStreamBroker) -> None:
    topology = provisioned.topology
    there, gone = (f"SESSIONS-0{n}" for n in (0, 1))
    of = {topology.lodged(place).stream: place for place in (Place("t", f"s{n}") for n in range(50))}
    config = (await provisioned.api.call(f"STREAM.INFO.{gone}"))["config"]
    before = topology.home(of[gone])
    await provisioned.api.call(f"STREAM.DELETE.{gone}")
    for _ in range(2):
        topology.look_again()  # as when the connection is back
        assert (await topology.to_read(of[there])).stream == there
    await provisioned.api.call(f"STREAM.CREATE.{gone}", config)

    async def known_anew() -> bool:
        await topology.to_read(of[gone])
        return topology.home(of[gone]) != before

    await eventually(known_anew)


def test_a_url_is_shown_without_its_password() -> None:
    url = "nats://ada:pw@one:4222,tls://two:4222,nats://token@three"
    assert shown(url) == "nats://one:4222,tls://two:4222,nats://three"


async def remarked(broker: JetStreamBroker, name: str, mark: Mark) -> None:
    """Mark a stream as a later version would."""
    config = (await every_stream(broker))[name]["config"]
    config["metadata"] = {**config["metadata"], **mark.spelled()}
    await broker.api.call(f"STREAM.UPDATE.{name}", config)


async def test_what_is_made_is_marked_with_its_format(provisioned: JetStreamBroker) -> None:
    streams = await every_stream(provisioned)
    mark = newest_mark([streams["SESSIONS-01"]["config"]["metadata"]])
    assert mark.format == FORMAT
    assert mark.version == VERSION


async def test_a_broker_of_a_later_format_is_refused_with_both_versions(provisioned: JetStreamBroker) -> None:
    # One of two is enough: an upgrade that has stopped in the middle.
    await remarked(provisioned, "SESSIONS-01", Mark(FORMAT + 2, FORMAT + 1, "9.4.0"))
    with pytest.raises(FormatTooNew) as refused:
        await JetStreamBroker.connect(provisioned.url)
    error = refused.value
    assert "9.4.0" in error.message
    assert VERSION in error.message
    assert f"format {FORMAT + 2}" in error.message
    assert "Upgrade this process to 9.4.0" in error.hint
    assert error.facts["min_reader"] == FORMAT + 1


async def test_a_later_format_that_this_one_can_use_is_used(provisioned: JetStreamBroker) -> None:
    await remarked(provisioned, "SESSIONS-00", Mark(FORMAT + 1, FORMAT, "9.4.0"))
    broker = await JetStreamBroker.connect(provisioned.url)
    await broker.close()


async def test_streams_from_before_there_were_marks_are_used(provisioned: JetStreamBroker) -> None:
    for name in ("SESSIONS-00", "SESSIONS-01"):
        config = (await every_stream(provisioned))[name]["config"]
        config["metadata"] = {k: v for k, v in config["metadata"].items() if k in ("session-fabric", STREAMS)}
        await provisioned.api.call(f"STREAM.UPDATE.{name}", config)
    broker = await JetStreamBroker.connect(provisioned.url)
    await broker.close()


@pytest.mark.parametrize(("why", "passing"), [(", peer offline", True), ("", False), (", tags not matched", False)])
def test_too_few_nodes_are_waited_for_where_one_cannot_be_reached(why: str, passing: bool) -> None:
    # As nats-server 2.15 says it to whoever starts with a cluster whose third node is not there yet.
    error = {"code": 400, "err_code": 10005, "description": f"no suitable peers for placement{why}"}
    assert ApiError(error, "STREAM.CREATE.KV_sf-revoked").passing == passing
