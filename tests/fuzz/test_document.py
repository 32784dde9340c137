"""What the OpenAPI document says is so, for a client that takes it by its word and for one that breaks it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from session_fabric_gateway.dialects.ag_ui.described import TAG as AG_UI
from session_fabric_gateway.durable.described import TAG

from tests.fuzz import effort
from tests.fuzz.living import living
from tests.support.servers import NatsNode

# Left out: that whatever fits its schema is accepted. No schema says that before goes without after, that a steer has
# a text, or that 5.0 is no integer here.
_LEFT_OUT = "positive_data_acceptance"


@pytest.mark.slow
@pytest.mark.parametrize("who", ["operator:eve", "user:ada", "nobody"] if effort.LONG else ["operator:eve", "nobody"])
async def test_answers_are_those_of_the_document(who: str, own_server: NatsNode, tmp_path: Path) -> None:
    header = []
    async with living(own_server.url, tmp_path) as one:
        if who != "nobody":
            header = ["--header", f"Authorization: Bearer {one.token(who)}"]
        if effort.LONG:
            tries = ["--seed", str(effort.SEED), "--max-time", str(int(effort.seconds(effort.DOCUMENT / 3)) + 1)]
            tries += ["--generation-database", "none"]
        else:
            tries = ["--max-examples", "5", "--generation-deterministic", "--phases", "coverage,fuzzing"]
        # By its module: the command is in no path of ours that is known for sure.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "run", f"{one.url}/openapi.json", *header, *tries,
            # Durable streams have a suite of their own (tests/durable), AG-UI and TanStack clients (tests/dialects).
            "--exclude-tag", str(TAG["name"]), "--exclude-tag", str(AG_UI["name"]),
            "--exclude-checks", _LEFT_OUT, "--suppress-health-check", "all", "--no-shrink", "--no-color",
            "--continue-on-failure", "--warnings", "off",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()[-8000:]
    assert b"Tested: 49" in told, told.decode()[-2000:]
