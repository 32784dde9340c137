"""Where nothing can be written: stdout that is closed, a disk that is full."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from session_fabric import Fabric
from session_fabric_cli import failing

from tests.support.servers import NatsNode

_BEGUN = "from session_fabric_cli.main import main; main()"
# What every further byte of a file is refused with is the same as on a disk that is full, but for its number.
_FULL = """
import resource, sys
from pathlib import Path
from session_fabric_cli.dev.places import Running, announce, secret_file
from session_fabric_cli.main import run
from session_fabric.words.errors import DataDirectoryUnusable
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
where, url, tenant = sys.argv[1:]
at = ["--nats", url, "--tenant", tenant]
print(run(["token", "keygen", f"{where}/signing.json"]))
print(run(["broker", "config", f"{where}/keys"]))
print(run(["context", "set", "there", *at]))
print(run(["backup", "create", f"{where}/backup", *at]))
print(run(["session", "export", "chat", "--file", f"{where}/chat.jsonl", *at]))
print(run(["session", "export", "chat", "--file", f"{where}/chat.jsonl.gz", *at]))
print(run(["audit", "export", "--file", f"{where}/audit.jsonl.zst", *at]))
try:
    announce(Path(where), Running.model_construct(pid=1))
except DataDirectoryUnusable as error:
    print(error.code)
try:
    secret_file(Path(where))
except DataDirectoryUnusable as error:
    print(error.code)
"""


def begun(redirection: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$0" "$@" {redirection}', sys.executable, "-c", _BEGUN, "context", "show"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-"])
def test_who_begins_without_standard_streams_prints_nowhere(redirection: str) -> None:
    done = begun(redirection)
    assert (done.returncode, done.stdout) == (0, "")
    assert "defect" not in done.stderr


def test_output_for_which_there_is_no_room_is_told_as_that() -> None:
    done = begun(">/dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].endswith("could be written: No space left on device.")


def test_a_disk_that_is_broken_is_not_told_to_be_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing.failed(OSError(errno.EIO, os.strerror(errno.EIO), "export.jsonl")) == failing.FAILED
    assert capsys.readouterr().err == "fabricctl: Not all of export.jsonl could be written: Input/output error.\n"


def test_a_disk_that_is_full_leaves_no_half_of_a_file_and_names_what_could_not_be_written(
    tmp_path: Path, shared_server: NatsNode, tenant: str
) -> None:
    async def begin() -> None:
        async with Fabric.connect(shared_server.url, tenant=tenant, participant="agent:a") as fabric:
            await fabric.session("chat").append({"type": "custom", "name": "hello"})

    asyncio.run(begin())
    places = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_DATA_HOME": str(tmp_path / "none")}
    command = [sys.executable, "-c", _FULL, str(tmp_path), shared_server.url, tenant]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, **places})
    assert done.stdout.split() == ["1"] * 7 + ["data_directory_unusable"] * 2
    for file in ("signing.json", "config.toml", "chat.part", "chat.jsonl", "chat.jsonl.gz", "audit.jsonl.zst"):
        assert re.search(f"Not all of [^ ]*/{file} could be written: File too large", done.stderr), file
    assert [file.name for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".part"] == []
