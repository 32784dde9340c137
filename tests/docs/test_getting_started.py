"""The commands of the first steps work as the page says, against what `fabricctl dev` starts.

```sh run blocks run in order, by bash; a ```text block that follows at once is what they print, with `…` for anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from session_fabric.jetstream.owned import OwnedProcess

from tests.docs.pages import ROOT, fences, label, says
from tests.support.waiting import eventually

PAGE: Final = ROOT / "docs/getting-started.md"
BIN: Final = Path(sys.executable).parent
_STEP_S: Final = 30.0


@pytest.fixture
async def addresses(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """`fabricctl dev` and the agent of the page, as two processes; what the page has the reader export."""
    out, log = tmp_path / "dev.out", tmp_path / "dev.log"
    command = [
        BIN / "fabricctl",
        "dev",
        "--port",
        "0",
        "--json",
        "--insecure",
        "--no-agent",
        "--data",
        tmp_path / "data",
    ]
    with out.open("wb") as stdout, log.open("wb") as stderr:
        server = OwnedProcess.start(command, stdout=stdout, stderr=stderr)
    try:

        def ready() -> str | None:
            return out.read_text() or None

        running = json.loads(await eventually(ready, _STEP_S))
        exported = {"SESSION_FABRIC_NATS_CREDENTIALS": running["nats_credentials"]}
        with log.open("ab") as stderr:
            agent = OwnedProcess.start(
                [sys.executable, ROOT / "examples/echo_agent.py", running["nats"]],
                stdout=stderr,
                stderr=stderr,
                env={**os.environ, **exported},
            )
        try:
            yield {"URL": running["url"], "NATS": running["nats"], **exported}
        finally:
            await agent.stop()
    finally:
        await server.stop()


async def test_the_commands_of_the_first_steps_do_what_the_page_says(addresses: dict[str, str]) -> None:
    steps = [fence for fence in fences(PAGE) if fence.language == "sh" and fence.words == ("run",)]
    assert steps
    for step in steps:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euc", step.text.replace(".venv/bin/", f"{BIN}/")),
            cwd=ROOT,
            env={**os.environ, **addresses},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(_STEP_S):
            printed, complained = await process.communicate()
        where = f"{label(PAGE)}, line {step.line}"
        assert process.returncode == 0, f"{where}: {complained.decode()}"
        if step.output is not None:
            assert says(printed.decode(), step.output), f"{where} printed:\n{printed.decode()}"
