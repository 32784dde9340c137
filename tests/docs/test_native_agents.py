"""The guide to native agents, followed command by command: a broker, a gateway, an agent."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Fence, fences, label, says
from tests.docs.test_examples import run_block
from tests.docs.test_getting_started import BIN
from tests.gateway.conftest import running
from tests.support.servers import nats_node

PAGE = ROOT / "docs/guides/native-agents.md"


async def command(step: Fence, directory: Path, **variables: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", step.text),
        cwd=directory,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "XDG_DATA_HOME": str(directory), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, complained = await process.communicate()
    assert process.returncode == 0, f"{label(PAGE)}, line {step.line}: {complained.decode()}"


async def test_the_guide_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = [one for one in fences(PAGE) if one.words == ("run",) or (one.language == "python" and not one.words)]
    config, keygen, *rest = steps
    await command(config, tmp_path)
    await command(keygen, tmp_path)
    keys = tmp_path / "keys"
    async with (
        nats_node(tmp_path / "nats", config=(tmp_path / "session-fabric.conf").read_text()) as server,
        running(
            server.url,
            "acme",
            nats_credentials=keys / "fabric.nk",
            native_agents=str(keys / "callout.seeds"),
            token_keys=str(tmp_path / "signing.public.json"),
        ),
    ):
        for step in rest:
            if step.language == "sh":
                names = {"SESSION_FABRIC_NATS": server.url, "SESSION_FABRIC_NATS_CREDENTIALS": str(keys / "fabric.nk")}
                await command(step, tmp_path, **names)
                continue
            printed = await run_block(step, {"__name__": "docs"})
            assert step.output is not None
            assert says(printed, step.output), printed
    assert {step.language for step in rest} == {"sh", "python"}
