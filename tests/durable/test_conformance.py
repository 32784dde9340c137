"""The judge that we did not write: all of the public suite passes, with one gateway and with two."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import jwt
import pytest

from tests.durable.proxy import proxy
from tests.durable.suite import LONG_POLL_S, TESTS, run_suite
from tests.gateway.processes import gateway_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SECRET = "a secret of thirty-two bytes or more, for tests alone"


async def test_the_development_server_passes_the_whole_public_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_FABRIC_STREAM_POLL_S", str(LONG_POLL_S))
    command = [sys.executable, "-m", "session_fabric_cli", "dev", "--port", "0", "--data", str(tmp_path / "data")]
    process = await asyncio.create_subprocess_exec(
        *command, "--insecure", "--no-agent", "--json", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            ready = json.loads(await process.stdout.readline())
        report = await run_suite(ready["url"], tmp_path)
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()
    assert report.failures == []
    assert report.passed == TESTS


async def test_two_gateways_in_turn_pass_the_whole_public_suite_with_tokens(
    broker_url: str | None, tenant: str, tmp_path: Path
) -> None:
    assert broker_url is not None
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    options = ("--dev-secret", SECRET, "--stream-poll", str(LONG_POLL_S), "--webhook-host", "127.0.0.1")
    claims = {"sub": "service:suite", "tenant": tenant, "exp": int(time.time()) + 3600, "sessions": {"/*": ["*"]}}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    limits = ("--limit", "program.requests=none")
    async with (
        gateway_process(broker_url, tmp_path / "one", *options, *limits) as one,
        gateway_process(broker_url, tmp_path / "two", *options, *limits) as two,
        proxy([one.url, two.url], token) as url,
    ):
        report = await run_suite(url, tmp_path)
    assert report.failures == []
    assert report.passed == TESTS
