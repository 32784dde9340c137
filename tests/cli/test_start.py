"""What fabricctl imports before it does anything: a start is quick because of what it leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Not pydantic: typer reads the options of a command by it.
_HEAVY = ["aiohttp", "cryptography", "jsonschema", "jwt", "nats", "rich", "structlog", "yaml"]
_ASKED = """
import json, sys
from session_fabric_cli.main import run
run(sys.argv[1:])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", _ASKED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["session", "--help"], ["nonsense"]])
def test_nothing_heavy_is_imported_before_a_command_is_called(arguments: list[str]) -> None:
    modules = imported(*arguments)
    assert [name for name in _HEAVY if name in modules] == []
    assert [name for name in modules if name.startswith("session_fabric.")] == []


def test_a_command_does_not_import_what_it_does_not_use() -> None:
    modules = imported("session", "ls", "--help")
    assert [name for name in ("aiohttp", "jsonschema", "jwt", "rich", "yaml") if name in modules] == []
    assert [name for name in modules if name.startswith("session_fabric_cli.commands.")] == [
        "session_fabric_cli.commands.sessions"
    ]
