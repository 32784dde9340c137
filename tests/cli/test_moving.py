"""`fabricctl stream show | check | repair | move-bucket` and `tenant streams`, as an operator calls them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Fabric
from session_fabric.jetstream.operating import Operator
from session_fabric.rules.layout import Layout, Lodging, Move
from session_fabric.words.subjects import SHARDS, Place, shard_of
from session_fabric_cli.commands.streams import page_of, print_page
from session_fabric_cli.main import run

from tests.support.servers import NatsNode, nats_node
from tests.support.sessions import note, stored
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]


class Terminal:
    def __init__(self, capsys: Capture) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str, status: int = 0) -> str:
        """Call `fabricctl`; return what it printed, what it says went wrong where it fails."""
        self._capsys.readouterr()
        ended = await asyncio.to_thread(run, list(arguments))
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        assert ended == status, (ended, out, err)
        return err if status > 1 or not out else out

    async def told(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(await self(*arguments, "-o", "json", status=status))


@pytest.fixture
async def fabric(own_server: NatsNode, tenant: str) -> AsyncIterator[Fabric]:
    async with Fabric.connect(own_server.url, tenant=tenant, participant="agent:a", streams=2) as one:
        await one.session("chat").append(note("before"))
        yield one


@pytest.fixture
def fabricctl(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_server: NatsNode) -> Terminal:
    monkeypatch.setenv("SESSION_FABRIC_NATS", own_server.url)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    return Terminal(capsys)


def bucket(tenant: str) -> str:
    return str(shard_of(Place(tenant, "chat")))


def test_moves_and_copies_of_a_stream_are_data_for_programs_and_sentences_for_people(capsys: Capture) -> None:
    move = Move(source="SESSIONS-00", target="SESSIONS-01", shards=(4, 5, 7), tenant="acme", phase="cutting")
    layout = Layout(lodgings=(Lodging(stream="SESSIONS-00", shards=tuple(range(256))),), moves=(move,))
    peers = [{"name": "n2", "current": True}, {"name": "n3", "offline": True, "lag": 12}, {"name": "n4", "lag": 3}]
    page = page_of(
        layout,
        "SESSIONS-00",
        {
            "config": {"name": "SESSIONS-00", "storage": "file"},
            "state": {"messages": 1, "bytes": 1, "first_seq": 1, "last_seq": 1},
            "cluster": {"leader": "n1", "replicas": peers},
        },
        [],
    )
    assert page["followers"] == [
        {"server": "n2", "state": "current", "behind": 0},
        {"server": "n3", "state": "offline", "behind": 12},
        {"server": "n4", "state": "behind", "behind": 3},
    ]
    assert page["moves"] == [
        {"buckets": "4-5,7", "tenant": "acme", "from": "SESSIONS-00", "to": "SESSIONS-01", "phase": "cutting"}
    ]
    print_page("table", page)
    told = capsys.readouterr().out
    assert "n2 current, n3 offline, n4 behind" in told
    assert "4-5,7 of acme from SESSIONS-00 to SESSIONS-01: cutting" in told


async def test_a_bucket_moves_and_is_shown_where_it_is(fabric: Fabric, tenant: str, fabricctl: Terminal) -> None:
    async with fabric.subscribe(durable="mail", session="chat"):
        moved = await fabricctl.told("stream", "move-bucket", bucket(tenant), "--to", "SESSIONS-BIG", "--yes")
        assert moved == {"stream": "SESSIONS-BIG", "buckets": [int(bucket(tenant))]}
        page = await fabricctl.told("stream", "show", "SESSIONS-BIG")
        assert (page["stream"], page["buckets"], page["tenant"]) == ("SESSIONS-BIG", bucket(tenant), None)
        assert page["events"] >= 2
        (row,) = page["subscriptions"]
        listed = [(one["tenant"], one["durable"]) for one in await fabricctl.told("consumer", "ls")]
        assert (row["tenant"], row["durable"], row["session"]) == (tenant, "mail", "chat")
        assert (row["tenant"], row["durable"]) in listed, "it has one name for all commands"
        assert bucket(tenant) in await fabricctl("stream", "show", "SESSIONS-BIG")
    await fabric.session("chat").append(note("after"))
    assert [e.body["value"] for e in await stored(fabric.session("chat")) if e.type == "app.note"] == [
        "before",
        "after",
    ]
    names = {row["stream"] for row in await fabricctl.told("stream", "ls")}
    assert names == {"SESSIONS-00", "SESSIONS-01", "SESSIONS-BIG"}


@pytest.mark.parametrize(
    ("buckets", "more", "said"),
    [
        ("256", [], "256"),
        ("0-256", [], "256"),
        ("one", [], "which buckets"),
        ("", [], "which buckets"),
        ("9-3", [], "No bucket was named"),
        ("0-127", [], "no other buckets"),
        ("120-130", [], "stream"),
        ("7", ["--to", "SESSIONS-00"], "SESSIONS-00"),
        ("7", ["--to", "a b.*"], "a b.*"),
        ("7", ["--max-bytes", "much"], "much"),
    ],
)
async def test_what_cannot_be_moved_is_said_and_nothing_changes(
    fabric: Fabric, fabricctl: Terminal, buckets: str, more: list[str], said: str
) -> None:
    before = await fabricctl.told("stream", "ls")
    assert said in await fabricctl("stream", "move-bucket", buckets, "--yes", *more, status=2)
    assert await fabricctl.told("stream", "ls") == before
    assert await fabricctl.told("stream", "check") == []


async def test_nothing_is_moved_unasked(fabric: Fabric, tenant: str, fabricctl: Terminal) -> None:
    for arguments in (["stream", "move-bucket", "7"], ["tenant", "streams", tenant]):
        assert "--yes" in await fabricctl(*arguments, status=2)
    for *arguments, said in (
        ["stream", "move-bucket", "999", "There is no bucket 999."],
        ["stream", "provision", "--streams", "3", "3 streams cannot share 256 buckets"],
        ["tenant", "streams", tenant, "--streams", "0", "--streams"],
        ["tenant", "streams", "a b", "'a b' is not a tenant name"],
    ):
        refused = await fabricctl(*arguments, status=2)
        assert said in refused
        assert "nobody can be asked" not in refused
    assert len(await fabricctl.told("stream", "ls")) == 2


async def test_a_stream_that_there_is_not_is_named_with_those_that_there_are(
    fabric: Fabric, fabricctl: Terminal
) -> None:
    said = await fabricctl("stream", "show", "SESSIONS-0", status=3)
    assert "SESSIONS-0" in said
    assert "SESSIONS-00" in said


async def test_of_two_at_once_the_second_is_told_of_the_first(
    fabric: Fabric, own_server: NatsNode, fabricctl: Terminal, tenant: str
) -> None:
    told: list[str] = []
    other = str((int(bucket(tenant)) + 1) % SHARDS)
    async with Operator.connected(own_server.url, say=told.append) as operator:
        moving = asyncio.create_task(operator.move_bucket([int(bucket(tenant))], None))
        await eventually(lambda: told)
        for arguments in (["stream", "move-bucket", other, "--yes"], ["tenant", "streams", tenant, "--yes"]):
            said = await fabricctl(*arguments, "-o", "json", status=1)
            assert "is changing where sessions are kept" in said
        await moving
    await fabricctl("stream", "move-bucket", other, "--yes")


async def test_a_tenant_gets_streams_of_its_own_and_has_them_divided(
    fabric: Fabric, tenant: str, fabricctl: Terminal
) -> None:
    first = await fabricctl.told("tenant", "streams", tenant, "--yes")
    assert first["tenant"] == tenant
    assert len(first["streams"]) == 1
    page = await fabricctl.told("stream", "show", first["streams"][0])
    assert page["tenant"] == tenant
    assert len((await fabricctl.told("tenant", "streams", tenant, "--streams", "2", "--yes"))["streams"]) == 2
    assert tenant in await fabricctl("tenant", "streams", tenant, "--max-bytes", "20M")
    page = await fabricctl.told("stream", "show", first["streams"][0])
    assert page["max_bytes"] in (20_000_000, 20 * 1024 * 1024)
    assert await fabricctl("tenant", "streams", "not a tenant", "--yes", status=2)
    assert [e.body["value"] for e in await stored(fabric.session("chat")) if e.type == "app.note"] == ["before"]


async def test_a_tenant_that_nobody_has_used_is_told(
    fabric: Fabric, tenant: str, fabricctl: Terminal, capsys: Capture
) -> None:
    said = await fabricctl("tenant", "streams", "nope", status=2)
    assert "Tenant nope has no sessions yet" in said
    assert "no sessions yet" not in await fabricctl("tenant", "streams", tenant, status=2)
    assert await asyncio.to_thread(run, ["tenant", "streams", "nope", "--yes"]) == 0
    assert "Tenant nope has no sessions yet" in capsys.readouterr().err


async def test_replicas_of_what_is_there_are_not_said_to_be_set(
    fabric: Fabric, fabricctl: Terminal, capsys: Capture
) -> None:
    assert await asyncio.to_thread(run, ["stream", "provision", "--replicas", "3"]) == 0
    out, err = capsys.readouterr()
    assert out == "No stream was made; these are there: SESSIONS-00, SESSIONS-01.\n"
    assert "SESSIONS-00 and 1 more have 1 copy as before" in err
    assert "`nats stream edit SESSIONS-00 --replicas 3`" in err
    assert await fabricctl.told("stream", "provision") == {"streams": ["SESSIONS-00", "SESSIONS-01"], "made": []}
    assert not capsys.readouterr().err


async def test_streams_that_a_division_makes_have_the_copies_that_were_asked_for(
    fabric: Fabric, fabricctl: Terminal
) -> None:
    """Which a server that stands alone refuses, and all stays as it was."""
    before = await fabricctl.told("stream", "ls")
    await fabricctl("stream", "provision", "--streams", "4", "--replicas", "3", "--yes", status=1)
    assert await fabricctl.told("stream", "ls") == before
    assert await fabricctl("stream", "check") == "Everything is as it should be.\n"


def test_a_move_that_is_over_is_none_of_what_moves() -> None:
    lodgings = (Lodging(stream="SESSIONS-00", shards=(0, 1)),)
    move = Move(source="SESSIONS-00", target="SESSIONS-02", shards=(0,))
    state = {"messages": 1, "bytes": 1, "first_seq": 1, "last_seq": 1}
    info = {"config": {"name": "SESSIONS-00", "storage": "file"}, "state": state}
    for phase, told in (("left", 1), ("gone", 0)):
        layout = Layout(lodgings=lodgings, moves=(move.model_copy(update={"phase": phase}),))
        assert len(page_of(layout, "SESSIONS-00", info, [])["moves"]) == told


async def test_when_a_stream_was_made_is_said_as_other_times_are(fabric: Fabric, fabricctl: Terminal) -> None:
    first = (await fabricctl("stream", "ls")).splitlines()[1]
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", first)


async def test_what_is_not_as_it_should_be_is_found_and_mended(
    fabric: Fabric, fabricctl: Terminal, own_server: NatsNode
) -> None:
    assert await fabricctl("stream", "check") == "Everything is as it should be.\n"
    broker: Any = fabric.broker
    config = (await broker.api.call("STREAM.INFO.SESSIONS-01"))["config"]
    await broker.api.call("STREAM.UPDATE.SESSIONS-01", {**config, "allow_direct": False})
    (row,) = await fabricctl.told("stream", "check", status=1)
    assert (row["where"], row["repair"]) == ("SESSIONS-01", True)
    assert "fabricctl stream repair" in await fabricctl("stream", "check", status=1)
    assert await fabricctl.told("stream", "repair") == {"mended": 1, "left": []}
    assert await fabricctl.told("stream", "check") == []


async def test_a_limit_for_which_a_stream_would_drop_what_was_confirmed_is_found_and_mended(
    fabric: Fabric, fabricctl: Terminal
) -> None:
    broker: Any = fabric.broker
    config = (await broker.api.call("STREAM.INFO.SESSIONS-01"))["config"]
    assert config["discard"] == "new", "a stream that is made refuses what does not fit, whatever limit is set later"
    await broker.api.call("STREAM.UPDATE.SESSIONS-01", {**config, "max_bytes": 10**9, "discard": "old"})
    (row,) = await fabricctl.told("stream", "check", status=1)
    assert (row["where"], row["repair"]) == ("SESSIONS-01", True)
    assert "max_bytes is 1000000000, what is over it is dropped" in row["what"]
    assert await fabricctl.told("stream", "repair") == {"mended": 1, "left": []}
    config = (await broker.api.call("STREAM.INFO.SESSIONS-01"))["config"]
    assert (config["max_bytes"], config["discard"]) == (10**9, "new")


async def test_nothing_moves_out_of_a_stream_that_drops_what_it_holds_until_it_keeps_it(
    fabric: Fabric, fabricctl: Terminal, tenant: str
) -> None:
    broker: Any = fabric.broker
    name = (await fabric.session("chat").record()).stretch.home.stream
    config = (await broker.api.call(f"STREAM.INFO.{name}"))["config"]
    await broker.api.call(f"STREAM.UPDATE.{name}", {**config, "max_bytes": 10**6, "discard": "old"})
    before = await fabricctl.told("stream", "ls")
    for arguments in (["stream", "move-bucket", bucket(tenant)], ["tenant", "streams", tenant]):
        said = await fabricctl(*arguments, "--yes", status=1)
        assert f"Nothing can be moved out of {name} while it drops what it holds: max_bytes is 1000000" in said
        assert "fabricctl stream repair" in said
    assert await fabricctl.told("stream", "ls") == before
    await fabricctl("stream", "repair")
    await fabricctl("stream", "move-bucket", bucket(tenant), "--yes")
    assert (await fabric.session("chat").history()).events[-1].body["value"] == "before"


async def test_a_stream_that_is_full_moves_nothing_and_is_named_with_what_gives_it_room(
    fabric: Fabric, fabricctl: Terminal, tenant: str
) -> None:
    broker: Any = fabric.broker
    name = (await fabric.session("chat").record()).stretch.home.stream
    config = (await broker.api.call(f"STREAM.INFO.{name}"))["config"]
    await broker.api.call(f"STREAM.UPDATE.{name}", {**config, "max_bytes": 1})
    said = await fabricctl("stream", "move-bucket", bucket(tenant), "--yes", status=1)
    assert f"{name} has no room for the mark behind what moves: maximum bytes exceeded." in said
    assert f"nats stream edit {name}" in said


async def test_who_has_no_rights_at_the_broker_changes_nothing(
    tmp_path: Path, tenant: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who may look at streams, as a reader of dashboards, and change none."""
    config = """
accounts { APP { jetstream: enabled, users: [
  {user: full, password: full},
  {user: looks, password: looks, permissions: {
    publish: {allow: ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.>",
      "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.LIST.>", "_INBOX.>"]},
    subscribe: {allow: ["_INBOX.>"]}}}
]}}
"""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    fabricctl = Terminal(capsys)
    async with nats_node(tmp_path / "nats", config=config) as server:
        full = server.url.replace("://", "://full:full@")
        monkeypatch.setenv("SESSION_FABRIC_NATS", full)
        await fabricctl("stream", "provision", "--streams", "2")
        before = await fabricctl.told("stream", "ls")
        monkeypatch.setenv("SESSION_FABRIC_NATS", server.url.replace("://", "://looks:looks@"))
        for arguments in (
            ["stream", "move-bucket", "7", "--yes"],
            ["tenant", "streams", tenant, "--yes"],
            ["stream", "provision", "--streams", "4", "--yes"],
        ):
            assert "fabricctl broker config" in await fabricctl(*arguments, "--timeout", "5", status=4)
        monkeypatch.setenv("SESSION_FABRIC_NATS", full)
        assert await fabricctl.told("stream", "ls") == before
