"""What fabricctl imports before it does anything: a start is quick because of what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from session_fabric import Fabric

from tests.support.servers import NatsNode

# Not pydantic: typer reads the options of a command by it.
_HEAVY = ["aiohttp", "cryptography", "jsonschema", "jwt", "nats", "rich", "structlog", "yaml"]
# What our libraries would take along, and commands that only read have no use for.
_ALONG = ["aiohttp", "attr", "jsonschema", "jwt", "opentelemetry", "pygments", "rich.traceback", "yaml"]
# As somebody at a terminal starts it, not as a test does.
_ASKED = """
import json, sys
from session_fabric_cli.main import main
try:
    main()
except SystemExit as leaving:
    print(json.dumps([leaving.code, sorted(sys.modules)]), file=sys.stderr)
"""


def imported(*arguments: str, status: int = 0, **environment: str) -> set[str]:
    command = [sys.executable, "-c", _ASKED, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, **environment}
    )
    left, modules = json.loads(done.stderr.splitlines()[-1])
    assert left == status, done.stderr
    return set(modules)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["session", "--help"]])
def test_nothing_heavy_is_imported_before_a_command_is_called(arguments: list[str]) -> None:
    modules = imported(*arguments)
    assert [name for name in _HEAVY if name in modules] == []
    assert [name for name in modules if name.startswith("session_fabric.")] == []


def test_nothing_heavy_is_imported_to_say_that_there_is_no_such_command() -> None:
    assert [name for name in _HEAVY if name in imported("nonsense", status=2)] == []


def test_a_command_does_not_import_what_it_does_not_use() -> None:
    modules = imported("session", "ls", "--help")
    assert [name for name in (*_ALONG, "rich") if name in modules] == []
    assert [name for name in modules if name.startswith("session_fabric_cli.commands.")] == [
        "session_fabric_cli.commands.sessions"
    ]


@pytest.mark.parametrize("arguments", [["ls"], ["show", "chat"]])
def test_a_command_that_reads_imports_nothing_that_others_take_along(
    arguments: list[str], shared_server: NatsNode, tenant: str, tmp_path: Path
) -> None:
    async def begin() -> None:
        async with Fabric.connect(shared_server.url, tenant=tenant, participant="agent:a") as fabric:
            await fabric.session("chat").append({"type": "custom", "name": "hello"})

    asyncio.run(begin())
    places = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    modules = imported(
        "session", *arguments, SESSION_FABRIC_NATS=shared_server.url, SESSION_FABRIC_TENANT=tenant, **places
    )
    assert "nats.aio.client" in modules
    assert [name for name in _ALONG if name in modules] == []
