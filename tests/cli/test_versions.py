"""What differs in version is told on stderr, once, with what to do; what was asked for is on stdout as ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from session_fabric import Fabric
from session_fabric.census import Process
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.leases import GATEWAYS, alive_call
from session_fabric.rules.versions import FORMAT, Mark
from session_fabric.words.names import escape
from session_fabric.words.version import VERSION
from session_fabric_cli.main import run
from session_fabric_cli.versions import of_mark, of_processes

from tests.support.servers import NatsNode

Capture = pytest.CaptureFixture[str]
NEWER = Mark(FORMAT + 1, FORMAT, "9.4.0")


def test_what_is_stored_in_our_format_is_no_word_worth() -> None:
    assert of_mark(Mark(FORMAT, 1, "0.0.1")) is None
    assert of_mark(Mark(FORMAT, 1, "9.4.0")) is None


def test_a_later_format_asks_for_a_later_fabricctl_and_an_earlier_one_for_provisioning() -> None:
    newer, older = of_mark(Mark(3, 1, "9.4.0"), "0.2.0", 2), of_mark(Mark(1, 1, "0.1.0"), "0.2.0", 2)
    assert newer is not None
    assert older is not None
    assert ("of format 3, by Session Fabric 9.4.0" in newer.say, newer.do) == (
        True,
        "Upgrade fabricctl to 9.4.0 or newer.",
    )
    assert ("of format 1, by Session Fabric 0.1.0" in older.say, "stream provision" in older.do) == (True, True)


def process(version: str | None, tenant: str | None = None) -> Process:
    return Process("h", tenant, version, 1)


def test_processes_that_may_meet_ours_are_not_told_of() -> None:
    # beside each other for as long as an upgrade takes; and one that hangs says nothing
    assert of_processes([process("0.2.0"), process("0.1.9"), process("0.3.0"), process(None)], "0.2.0") is None


def test_processes_too_far_from_ours_are_counted_by_version() -> None:
    newer = of_processes([process("0.4.0"), process("0.4.0"), process("0.4.1", "acme"), process("0.2.0")], "0.2.0")
    assert newer is not None
    assert newer.say.startswith("1 agent of 0.4.1, 2 gateways of 0.4.0: too far from fabricctl 0.2.0")
    assert newer.do == "Upgrade fabricctl."
    older = of_processes([process("0.4.0"), process("")], "0.2.0")
    assert older is not None
    assert older.say.startswith("1 gateway of 0.1 or older, 1 gateway of 0.4.0")
    assert older.do.startswith("Upgrade them")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_server: NatsNode) -> str:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("SESSION_FABRIC_NATS", own_server.url)
    return own_server.url


async def marked(url: str, mark: Mark) -> None:
    """Mark a stream as a version of that format would."""
    broker = await JetStreamBroker.connect(url, streams=1)
    config = (await broker.api.call("STREAM.INFO.SESSIONS-00"))["config"]
    config["metadata"] |= mark.spelled()
    await broker.api.call("STREAM.UPDATE.SESSIONS-00", config)
    await broker.close()


async def told(capsys: Capture, *arguments: str) -> tuple[object, list[str]]:
    assert await asyncio.to_thread(run, [*arguments, "-o", "json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err.splitlines()


async def test_a_later_format_is_told_by_every_command_that_connects(alone: str, capsys: Capture) -> None:
    await marked(alone, NEWER)
    commands = (["session", "ls"], ["consumer", "ls"], ["bench", "--seconds", "1", "--sessions", "1"])
    for command in commands:
        _, err = await told(capsys, *command)
        lines = [line for line in err if "9.4.0" in line]
        assert [line.split()[0] for line in lines] == ["fabricctl:", "Upgrade"], err
    found, err = await told(capsys, "doctor")
    assert err == []
    (row,) = [row for row in found if row["check"] == "versions"]  # type: ignore[attr-defined]
    assert (row["level"], row["fix"]) == ("warn", "Upgrade fabricctl to 9.4.0 or newer.")


async def test_nothing_is_told_where_all_is_of_one_version(alone: str, capsys: Capture) -> None:
    await marked(alone, Mark(version=VERSION))
    async with living(alone, VERSION):
        for command in (["session", "ls"], ["gateway", "ls"], ["agent", "ls"]):
            assert (await told(capsys, *command))[1] == []


@asynccontextmanager
async def living(url: str, version: str) -> AsyncIterator[None]:
    """Have a gateway live that answers to be of a version."""
    async with Fabric.connect(url, participant="agent:a", streams=1) as fabric:

        async def who(_: bytes) -> bytes:
            return orjson.dumps({"version": version, "format": FORMAT})

        serving = await fabric.broker.calls.serve(alive_call("another"), who)
        await fabric.broker.bucket("sf-leases").put(f"{escape(GATEWAYS)}.another", b"{}", ttl_s=60)
        yield
        await serving.close()


async def test_a_gateway_too_far_from_ours_is_told_beside_the_list(alone: str, capsys: Capture) -> None:
    async with living(alone, "9.4.0"):
        found, err = await told(capsys, "gateway", "ls")
    assert [row["version"] for row in found] == ["9.4.0"]  # type: ignore[attr-defined]
    assert err == [
        f"fabricctl: 1 gateway of 9.4.0: too far from fabricctl {VERSION} for what is shown and asked to be relied on.",
        "  Upgrade fabricctl.",
    ]
