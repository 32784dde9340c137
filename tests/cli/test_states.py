"""What is said to somebody whose broker is not as it must be: one sentence, what mends it, and at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from session_fabric_cli.main import run

from tests.support.certificates import Authority
from tests.support.natives import guarded_server
from tests.support.servers import NatsNode, nats_node

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("CONTEXT", "NATS", "TENANT", "NATS_CREDENTIALS"):
        monkeypatch.delenv(f"SESSION_FABRIC_{name}", raising=False)


async def fails(capsys: Capture, status: int, *arguments: str) -> str:
    """Run a command that must fail so; return the sentence and its hint."""
    ended = await asyncio.to_thread(run, list(arguments))
    out, err = capsys.readouterr()
    assert (ended, out) == (status, ""), err
    sentence = err[err.index("fabricctl: ") :]  # before it are this process's own logs, which fabricctl's are not
    assert len(sentence.splitlines()) == 2
    return sentence


async def test_a_broker_that_nobody_has_provisioned(own_server: NatsNode, capsys: Capture) -> None:
    assert "fabricctl stream provision" in await fails(capsys, 1, "session", "ls", "--nats", own_server.url)


async def test_a_broker_without_jetstream_for_the_account(tmp_path: Path, capsys: Capture) -> None:
    config = (
        "accounts { A { users: [{user: a, password: a}] }, B { jetstream: enabled, users: [{user: b, password: b}] } }"
    )
    async with nats_node(tmp_path / "nats", config=config) as node:
        url = node.url.replace("nats://", "nats://a:a@")
        told = await fails(capsys, 1, "session", "ls", "--nats", url)
    assert "JetStream is off for this account" in told
    assert "jetstream: enabled" in told


async def test_credentials_that_may_not_use_jetstream(tmp_path: Path, capsys: Capture) -> None:
    config = 'authorization { users: [{user: a, password: a, permissions: {publish: ["sf.>"], subscribe: ">"}}] }'
    async with nats_node(tmp_path / "nats", config=config) as node:
        url = node.url.replace("nats://", "nats://a:a@")
        told = await fails(capsys, 4, "session", "ls", "--nats", url)
    assert "does not let these credentials publish to $JS.API.STREAM.LIST" in told
    assert "fabricctl broker config" in told


async def test_credentials_that_the_broker_does_not_accept(tmp_path: Path, capsys: Capture) -> None:
    async with guarded_server(tmp_path) as guarded:
        told = await fails(capsys, 4, "session", "ls", "--nats", guarded.server.url)
    assert "does not accept the credentials" in told


async def test_a_broker_that_is_not_there(capsys: Capture) -> None:
    told = await fails(capsys, 5, "session", "ls", "--nats", "nats://127.0.0.1:1", "--timeout", "2s")
    assert "127.0.0.1:1" in told


async def test_a_broker_whose_certificate_nobody_known_has_signed(tmp_path: Path, capsys: Capture) -> None:
    authority = Authority(tmp_path / "tls", "us")
    pair = authority.issue("broker")
    config = f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}" }}'
    async with nats_node(tmp_path / "nats", config=config) as node:
        told = await fails(capsys, 5, "session", "ls", "--nats", node.url, "--timeout", "3s")
        assert "certificate" in told
        arguments = ["context", "set", "safe", "--nats", node.url, "--ca", str(authority.file)]
        assert run(arguments) == 0
        capsys.readouterr()
        assert "fabricctl stream provision" in await fails(capsys, 1, "session", "ls", "--context", "safe")
