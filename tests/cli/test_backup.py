"""`fabricctl backup` on a real broker."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from session_fabric import Fabric

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

    asyncio.run(live())
    at = ("--nats", shared_server.url)
    written = fabricctl("backup", "create", tmp_path / "b", "--tenant", tenant, *at)
    assert (written.returncode, written.stderr) == (0, "")
    assert f"Wrote 1 sessions of tenant {tenant}" in written.stdout
    restored = fabricctl("backup", "restore", tmp_path / "b", "--tenant", f"{tenant}-2", *at, "-o", "json")
    assert restored.returncode == 0, restored.stderr
    assert '"new": 1' in restored.stdout or '"new":1' in restored.stdout
    file = tmp_path / "b" / "sessions" / "one.jsonl"
    file.write_bytes(file.read_bytes().replace(b"kept", b"left"))
    broken = fabricctl("backup", "verify", tmp_path / "b")
    assert broken.returncode == 1
    assert "sessions/one.jsonl: Line" in broken.stderr


def test_a_path_that_cannot_be_used_is_named(shared_server: NatsNode, tmp_path: Path, tenant: str) -> None:
    file = tmp_path / "a file"
    file.write_text("")
    for command in (["create", file, "--nats", shared_server.url], ["verify", file]):
        done = fabricctl("backup", *command)
        assert done.returncode == 2, done.stderr
        assert f"{file}" in done.stderr
        assert "cannot be used: Not a directory." in done.stderr
