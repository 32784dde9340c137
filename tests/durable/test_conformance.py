"""The judge that we did not write: all of the public suite passes, with one gateway and with two.

One on a single nats-server (R1), two on a cluster of three (R3). What the suite says is printed at the run's end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from tests.durable.proxy import proxy
from tests.durable.suite import LONG_POLL_S, TESTS, run_suite
from tests.gateway.processes import gateway_process
from tests.support.printing import PRINTED
from tests.support.servers import NatsCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SECRET = "a secret of thirty-two bytes or more, for tests alone"


Record = Callable[[str, object], None]


async def test_the_development_server_passes_the_whole_public_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
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
    record_property(PRINTED, f"one gateway on one nats-server\n{report}")
    assert report.failures == []
    assert report.passed == TESTS


@pytest.mark.cluster
async def test_two_gateways_in_turn_on_three_nodes_pass_the_whole_public_suite_with_tokens(
    shared_cluster: NatsCluster, tenant: str, tmp_path: Path, record_property: Record
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    options = ("--dev-secret", SECRET, "--stream-poll", str(LONG_POLL_S), "--webhook-host", "127.0.0.1")
    claims = {"sub": "service:suite", "tenant": tenant, "exp": int(time.time()) + 3600, "sessions": {"/*": ["*"]}}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    limits = ("--limit", "program.requests=none")
    async with (
        gateway_process(shared_cluster.nodes[0].url, tmp_path / "one", *options, *limits) as one,
        gateway_process(shared_cluster.nodes[1].url, tmp_path / "two", *options, *limits) as two,
        proxy([one.url, two.url], token) as url,
    ):
        report = await run_suite(url, tmp_path)
    record_property(PRINTED, f"two gateways in turn, with tokens, on three nats-servers\n{report}")
    assert report.failures == []
    assert report.passed == TESTS
