"""`fabricctl doctor`: what it finds at brokers that are well, and at some that are not."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from session_fabric import Fabric
from session_fabric.jetstream.api import ApiError
from session_fabric.jetstream.consumers import DurableState, Share
from session_fabric.jetstream.durable import consumer_config
from session_fabric.ports import Wanted
from session_fabric.words.errors import BrokerUnavailable
from session_fabric_cli import diagnosis
from session_fabric_cli.main import run

from tests.support.brokers import connect
from tests.support.natives import guarded_server
from tests.support.servers import NatsCluster, NatsNode, nats_node
from tests.support.sessions import api
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("SESSION_FABRIC_NATS_CREDENTIALS", raising=False)


async def looked(capsys: Capture, url: str, status: int = 0) -> dict[str, str]:
    """Provision, look, and return the worst level of each check."""
    await asyncio.to_thread(run, ["stream", "provision", "--streams", "2", "--nats", url])
    capsys.readouterr()
    ended = await asyncio.to_thread(run, ["doctor", "-o", "json", "--nats", url])
    out, err = capsys.readouterr()
    assert ended == status, err or out
    worst: dict[str, str] = {}
    for row in json.loads(out):
        assert bool(row["fix"]) == (row["level"] != "ok"), row
        if worst.get(row["check"]) != "fail":
            worst[row["check"]] = row["level"]
    return worst


async def test_a_broker_that_is_well_is_told_so_in_lines_for_people(own_server: NatsNode, capsys: Capture) -> None:
    assert await asyncio.to_thread(run, ["stream", "provision", "--streams", "1", "--nats", own_server.url]) == 0
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["doctor", "--nats", own_server.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    broker, *rest = lines
    assert broker.startswith("ok    broker               nats-server 2.")
    (storage,) = [line for line in rest if "storage" in line]
    assert re.fullmatch(r"ok    storage              [1-9][0-9]* bytes used, the account has no limit", storage)
    assert rest == [
        "ok    TLS                  none, on this machine alone",
        "ok    permissions          all 52 rights that the fabric needs",
        "ok    max_payload          1048576 bytes",
        storage,
        "ok    streams              1 keeps sessions, as it must be",
        "ok    replicas             1 stream, 1 copy each",
        "ok    clock of the broker  +0.0 s from this machine's",
        "ok    live                 what is stored is told live",
        "ok    ends                 the broker tells of connections that end",
        "ok    consumers            0 durable subscriptions, none behind",
        "ok    dead letters         none",
        "warn  gateways             none lives",
        "                           → Start one: session-fabric-gateway --nats URL.",
    ]


async def test_a_stream_that_is_full_is_told_with_what_gives_it_room(own_server: NatsNode, capsys: Capture) -> None:
    await asyncio.to_thread(run, ["stream", "provision", "--streams", "1", "--nats", own_server.url])
    broker = await connect(own_server.url)
    config = (await broker.api.call("STREAM.INFO.SESSIONS-00"))["config"]
    await broker.api.call("STREAM.UPDATE.SESSIONS-00", config | {"max_bytes": 1})
    await broker.close()
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["doctor", "--nats", own_server.url]) == 1
    (live, fix) = capsys.readouterr().out.partition("live  ")[2].splitlines()[:2]
    assert "maximum bytes exceeded" in live
    assert "The stream is full" in fix


_SMALL = 'jetstream {{ store_dir: "{}", max_file_store: 64KB, max_memory_store: 64KB }}'


@pytest.mark.parametrize(
    ("storage", "number", "setting"), [("file", 10047, "max_file_store"), ("memory", 10028, "max_memory_store")]
)
async def test_a_stream_for_which_a_broker_has_no_room_is_refused_at_once_with_what_gives_it_more(
    tmp_path: Path, storage: str, number: int, setting: str
) -> None:
    async with nats_node(tmp_path / "nats", config=_SMALL.format(tmp_path / "js")) as node:
        broker = await connect(node.url)
        config = {"name": "LARGE", "subjects": ["large"], "storage": storage, "max_bytes": 10**9}
        with pytest.raises(ApiError) as refused:
            await broker.api.call("STREAM.CREATE.LARGE", config)
        await broker.close()
    error = refused.value
    assert (error.number, error.status, error.passing) == (number, 500, False)
    assert setting in error.hint


async def filled(url: str) -> BrokerUnavailable:
    """Append until there is no room left; return what is told then."""
    broker = await connect(url)
    session = (await Fabric.over(broker, participant="operator:ann")).session("chat")
    with pytest.raises(BrokerUnavailable) as full:
        for number in range(100):
            await session.append({"type": "app.note", "text": "x" * 10_000}, id=f"e{number}")
    await broker.close()
    return full.value


async def test_a_broker_whose_room_is_used_up_is_asked_again_and_told_with_what_gives_it_more(tmp_path: Path) -> None:
    async with nats_node(tmp_path / "nats", config=_SMALL.format(tmp_path / "js")) as node:
        full = await filled(node.url)
    assert "max_file_store" in full.hint
    assert isinstance(full.__cause__, ApiError)
    assert (full.__cause__.number, full.__cause__.status) == (10023, 503)


def limited(limits: str) -> str:
    return f"accounts {{ APP {{ jetstream {{ {limits} }}, users: [{{user: a, password: a}}] }} }}"


async def test_an_account_whose_room_is_used_up_is_asked_again_and_told_with_what_gives_it_more(tmp_path: Path) -> None:
    async with nats_node(tmp_path / "nats", config=limited("max_file: 200K, max_mem: 1M")) as node:
        full = await filled(node.url.replace("nats://", "nats://a:a@"))
    assert "raise its max_file" in full.hint


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        ("max_streams: 10", "Raise max_streams"),
        ("max_consumers: 10", "Raise max_consumers"),
        ("max_bytes_required: true", "Turn max_bytes_required off"),
    ],
)
async def test_an_account_that_may_not_have_what_is_made_is_told_what_it_has_to_be_granted(
    tmp_path: Path, capsys: Capture, limits: str, setting: str
) -> None:
    async with nats_node(tmp_path / "nats", config=limited(f"max_file: 1G, max_mem: 1G, {limits}")) as node:
        url = node.url.replace("nats://", "nats://a:a@")
        assert await asyncio.to_thread(run, ["stream", "provision", "--streams", "1", "--nats", url]) == 1
    assert setting in capsys.readouterr().err


async def test_an_account_in_which_no_subscription_can_be_made_is_told_as_that(tmp_path: Path, capsys: Capture) -> None:
    config = limited("max_file: 1G, max_mem: 1G, max_ack_pending: 500")
    async with nats_node(tmp_path / "nats", config=config) as node:
        found = await looked(capsys, node.url.replace("nats://", "nats://a:a@"), status=1)
    assert found["max_ack_pending"] == "fail"


async def test_a_broker_that_lets_in_nobody_more_is_told_as_that(tmp_path: Path, capsys: Capture) -> None:
    async with nats_node(tmp_path / "nats", config="max_connections: 1") as node:
        assert (await looked(capsys, node.url, status=1))["ends"] == "fail"


async def test_a_secured_broker_tells_of_connections_that_end(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded_server(tmp_path) as guarded:
        monkeypatch.setenv("SESSION_FABRIC_NATS_CREDENTIALS", str(guarded.nkey))
        found = await looked(capsys, guarded.server.url)
    assert (found["ends"], found["permissions"], found["live"]) == ("ok", "ok", "ok")


async def test_a_right_that_lacks_is_named_with_its_subject(tmp_path: Path, capsys: Capture) -> None:
    config = """authorization { users: [
      {user: all, password: all}
      {user: a, password: a, permissions: {publish: {deny: ["$JS.API.CONSUMER.PAUSE.>", "$KV.sf-dead.>"]}}}
    ] }"""
    async with nats_node(tmp_path / "nats", config=config) as node:
        whole = node.url.replace("nats://", "nats://all:all@")
        assert (await looked(capsys, whole))["permissions"] == "ok"
        found = await looked(capsys, node.url.replace("nats://", "nats://a:a@"), status=1)
        assert found["permissions"] == "fail"


@pytest.mark.parametrize(
    ("way", "subject", "said"),
    [
        ("publish", "$JS.API.CONSUMER.MSG.NEXT.>", "may not take events"),
        ("publish", "$JS.API.CONSUMER.INFO.>", "may not look at consumers"),
        ("publish", "$JS.API.STREAM.MSG.DELETE.>", "may not remove events"),
        ("publish", "$JS.ACK.>", "may not acknowledge events"),
        ("publish", "sf-blob.>", "may not write large bodies"),
        ("publish", "sf-sig.>", "may not send signals"),
        ("subscribe", "sf-live.>", "may not hear what is stored"),
        ("subscribe", "sf-kv.sf-leases.>", "may not hear what changes in sf-leases"),
        ("subscribe", "sf-sig.>", "may not hear signals"),
        ("subscribe", "sf-call.>", "may not be asked by processes"),
    ],
)
async def test_each_right_that_lacks_is_told_with_how_it_is_used(
    tmp_path: Path, capsys: Capture, way: str, subject: str, said: str
) -> None:
    config = f"""authorization {{ users: [
      {{user: all, password: all}}
      {{user: a, password: a, permissions: {{{way}: {{deny: ["{subject}"]}}}}}}
    ] }}"""
    async with nats_node(tmp_path / "nats", config=config) as node:
        await looked(capsys, node.url.replace("nats://", "nats://all:all@"))
        url = node.url.replace("nats://", "nats://a:a@")
        assert await asyncio.to_thread(run, ["doctor", "-o", "json", "--nats", url]) == 1
    rows = json.loads(capsys.readouterr().out)
    (row,) = [row for row in rows if row["check"] == "permissions"]
    assert row["found"] == said
    assert f"to {way} to {subject.rstrip('>')}" in row["fix"]


async def test_looking_leaves_nothing_behind(own_server: NatsNode, capsys: Capture) -> None:
    assert await asyncio.to_thread(run, ["stream", "provision", "--streams", "2", "--nats", own_server.url]) == 0
    before = held(own_server)
    assert {name for name, messages in before.items() if messages} == {"KV_sf-layout"}  # which streams there are
    await looked(capsys, own_server.url)
    assert held(own_server) == before


def held(node: NatsNode) -> dict[str, int]:
    """Return how many messages each stream of a node has."""
    page = node.monitor("/jsz?streams=true&accounts=true")
    streams = [one for account in page["account_details"] for one in account.get("stream_detail", ())]
    return {one["name"]: one["state"]["messages"] for one in streams}


@pytest.mark.cluster
async def test_a_cluster_without_its_majority_has_its_nodes_looked_at(tmp_path: Path, capsys: Capture) -> None:
    cluster = NatsCluster(tmp_path / "cluster")
    cluster.start()
    try:
        await cluster.ready()
        one, two, three = cluster.nodes
        two.kill()
        three.freeze()
        found: list[dict[str, str]] = []

        async def told() -> bool:  # a leader that is left alone takes its time to notice
            status = await asyncio.to_thread(run, ["doctor", "-o", "json", "--nats", cluster.url, "--timeout", "30s"])
            out = capsys.readouterr().out
            found[:] = json.loads(out) if out else []
            return status == 1 and found[-1]["check"] == "node"

        await eventually(told, 60)
        assert [(row["level"], row["check"]) for row in found] == [
            ("fail", "streams"),
            ("ok", "node"),
            ("fail", "node"),
            ("fail", "node"),
        ]
        assert f"n1 at 127.0.0.1:{one.port} answers" in found[1]["found"]
        assert f"127.0.0.1:{two.port} cannot be reached: Connection refused" in found[2]["found"]
        assert f"127.0.0.1:{three.port} does not answer" in found[3]["found"]
    finally:
        for node in cluster.nodes:
            node.kill()


@pytest.mark.cluster
async def test_a_cluster_has_its_leaders_and_copies_looked_at(shared_cluster: NatsCluster, capsys: Capture) -> None:
    found = await looked(capsys, shared_cluster.url)
    assert (found["leaders"], found["replicas"], found["live"]) == ("ok", "ok", "ok")


def test_a_clock_that_differs_is_told_and_by_much_it_fails() -> None:
    assert [diagnosis.of_clock("x", s).level for s in (0.2, -2.0, 31.0)] == ["ok", "warn", "fail"]


def test_a_stream_without_a_leader_fails_and_a_peer_that_is_behind_is_told() -> None:
    def info(**cluster: object) -> dict[str, object]:
        return {"config": {"name": "SESSIONS-00", "num_replicas": 3}, "cluster": cluster}

    lost = list(diagnosis.of_streams([info(leader="")], True))
    assert ("fail", "cluster") in [(one.level, one.check) for one in lost]
    behind = list(diagnosis.of_streams([info(leader="n1", replicas=[{"name": "n2", "current": False}])], True))
    assert [one.level for one in behind if one.check == "cluster"] == ["warn"]


def test_storage_that_is_nearly_used_up_is_told_before_it_fails() -> None:
    levels = []
    for used in (10, 85, 96):
        account = {"storage": used, "limits": {"max_storage": 100}}
        levels += [one.level for one in diagnosis.of_limits(account, {"max_payload": 2**20}) if one.check == "storage"]
    assert levels == ["ok", "warn", "fail"]


def test_a_command_about_a_pool_names_its_tenant() -> None:
    def durable(paused_s: float, oldest_ms: int | None) -> DurableState:
        return DurableState("acme", "pool-a", "", [Share("SESSIONS-00", "c", 1, 0, 0, 0, 30.0, paused_s, oldest_ms)])

    paused, late = diagnosis.of_durables([durable(60.0, None), durable(0.0, 0)], 1000.0)
    assert paused.fix == "`fabricctl consumer resume pool-a --tenant acme`, if that is over."
    assert late.fix.startswith("`fabricctl agent ls --tenant acme`")


async def test_consumers_that_somebody_else_has_made_under_our_names_are_told(
    own_server: NatsNode, capsys: Capture
) -> None:
    async with Fabric.connect(own_server.url, tenant="t", participant="operator:ann", streams=2) as fabric:
        config = consumer_config("sf=t=pool-default=", "t", None, [Wanted("in", "default")], 30.0, -1, "start")
        changes = {
            "sf=t=pool-default=": {"headers_only": True},
            "sf=t=pool-other=": {"filter_subjects": ["sf.ev.*.t.*.*.*"]},
            "a-copy": {},  # with our metadata, as `nats consumer copy` makes one
        }
        for name, change in changes.items():
            body = {"stream_name": "SESSIONS-00", "config": {**config, "name": name, "durable_name": name, **change}}
            await api(fabric).api.call(f"CONSUMER.CREATE.SESSIONS-00.{name}", {**body, "action": "create"})
    assert (await looked(capsys, own_server.url, status=1))["consumers"] == "fail"
    await asyncio.to_thread(run, ["doctor", "--nats", own_server.url])
    shown = capsys.readouterr().out
    assert "sf=t=pool-default= in stream SESSIONS-00 is not as the fabric makes it: headers_only is True" in shown
    assert "sf=t=pool-other= in stream SESSIONS-00 hands out sf.ev.*.t" in shown
    assert "`nats consumer rm SESSIONS-00 sf=t=pool-default=`" in shown
    assert "a-copy" not in shown
