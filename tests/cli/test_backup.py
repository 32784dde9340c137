"""`fabricctl backup` on a real broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from session_fabric import Fabric
from session_fabric.streams.records import place_of
from session_fabric.streams.subscribed import BUCKET, key_of
from session_fabric.streams.wishes import Wish

from tests.support.servers import NatsNode
from tests.support.sessions import note


def fabricctl(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "session_fabric_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_a_tenant_is_written_verified_and_restored_and_a_broken_file_is_named(
    shared_server: NatsNode, tmp_path: Path, tenant: str
) -> None:
    async def live() -> None:
        async with Fabric.connect(shared_server.url, tenant=tenant, participant="operator:ann") as fabric:
            await fabric.session("one").append(note("kept"))
            streams, log = await fabric.durable_streams(), place_of(tenant, "orders/7")
            await streams.make(log, Wish("application/json", body=b'{"paid":true}'), "service:shop")

    asyncio.run(live())
    at = ("--nats", shared_server.url)
    written = fabricctl("backup", "create", tmp_path / "b", "--tenant", tenant, *at)
    assert (written.returncode, written.stderr) == (0, "")
    assert f"Wrote 1 session and 1 durable stream of tenant {tenant} (2 now)" in written.stdout
    restored = fabricctl("backup", "restore", tmp_path / "b", "--tenant", f"{tenant}-2", *at, "-o", "json")
    assert restored.returncode == 0, restored.stderr
    taken = fabricctl("backup", "restore", tmp_path / "b", "--tenant", tenant, *at)
    assert (taken.returncode, "--as" in taken.stderr, "--tenant NAME" in taken.stderr) == (1, False, True)
    left = fabricctl("backup", "restore", tmp_path / "b", "--tenant", tenant, *at, "--others")
    assert (left.returncode, left.stderr) == (1, "fabricctl: 2 were there already, and left alone: one, orders/7.\n")
    assert json.loads(restored.stdout)["new"] == 2
    verified = fabricctl("backup", "verify", tmp_path / "b", "--output", "json")
    told = json.loads(verified.stdout)
    assert (told["tenant"], told["sessions"], verified.stderr) == (tenant, 1, "")
    assert told["events"] >= 1
    whole = fabricctl("backup", "verify", tmp_path / "b").stdout
    assert "is whole: 1 session, " in whole
    assert "; 1 durable stream, 1 entry." in whole
    file = tmp_path / "b" / "sessions" / "one.jsonl"
    file.write_bytes(file.read_bytes().replace(b"kept", b"left"))
    broken = fabricctl("backup", "verify", tmp_path / "b")
    assert broken.returncode == 1
    assert "sessions/one.jsonl: Line" in broken.stderr


def test_subscriptions_that_cannot_be_read_are_named_and_all_else_is_there(
    shared_server: NatsNode, tmp_path: Path, tenant: str
) -> None:
    async def live() -> None:
        async with Fabric.connect(shared_server.url, tenant=tenant, participant="operator:ann") as fabric:
            await fabric.session("one").append(note("kept"))
            await fabric.broker.bucket(BUCKET).put(key_of(tenant, "w1"), b'{"of": "a later version"}')

    asyncio.run(live())
    at = ("--nats", shared_server.url)
    for command in (
        ("create", tmp_path / "b", "--tenant", tenant, *at),
        ("verify", tmp_path / "b"),
        ("restore", tmp_path / "b", "--tenant", f"{tenant}-2", *at),
    ):
        done = fabricctl("backup", *command, "-o", "json")
        assert done.returncode == 1, done.stderr
        assert "Subscriptions on streams that cannot be read: 'w1'." in done.stderr
        told = json.loads(done.stdout)
        assert (told["sessions"], told["subscriptions"], told["unreadable"]) == (1, 0, ["w1"])


async def test_a_path_that_cannot_be_used_is_named(shared_server: NatsNode, tmp_path: Path, tenant: str) -> None:
    await (await Fabric.connect(shared_server.url, tenant=tenant)).close()  # the broker has its streams
    file = tmp_path / "a file"
    file.write_text("")
    for command in (["create", file, "--nats", shared_server.url], ["verify", file]):
        done = fabricctl("backup", *command)
        assert done.returncode == 2, done.stderr
        assert f"{file}" in done.stderr
        assert "cannot be used: Not a directory." in done.stderr
