"""The frameworks' own packages in Node, against a gateway and an agent's process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.gateway.conftest import Running

NODE: Final = Path(__file__).parent / "node"
_ROOT: Final = Path(__file__).parents[2]


@asynccontextmanager
async def agent(house: Running) -> AsyncIterator[None]:
    """Have `tests.dialects.agent` serve the house's tenant for as long as the block lasts."""
    url = house.gateway.settings.nats
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.dialects.agent", url, house.tenant), cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.terminate()
        await process.communicate()


async def vitest(file: str, **env: str) -> None:
    """Run one file of tests; its output is shown when it fails."""
    installed = NODE / "node_modules" / ".installed"
    assert installed.exists(), f"run: make {installed.relative_to(_ROOT)}"
    options = "--experimental-websocket --experimental-eventsource"  # which Node 20 has behind flags
    process = await asyncio.create_subprocess_exec(
        *("npx", "vitest", "run", file),
        cwd=NODE,
        env={**os.environ, "NODE_OPTIONS": options, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    print(output.decode("utf-8", "replace"))
    assert process.returncode == 0, output.decode("utf-8", "replace")[-6000:]


def tokens(house: Running) -> dict[str, str]:
    """Return what a test in Node needs to know of the house."""
    return {
        "GATEWAY_URL": house.url,
        "TOKEN_ADA": house.token("user:ada"),
        "TOKEN_BOB": house.token("user:bob"),
        "TOKEN_OPERATOR": house.token("operator:eve"),
        "TOKEN_READER": house.token("user:rea", sessions={"*": ["read"]}),
    }
