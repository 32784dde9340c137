"""Readiness to keep sessions to their retention as a process of its own; recent events may go too.

`python -m tests.system.trimmer URL TENANT`
"""

from __future__ import annotations

import asyncio
import sys

from session_fabric import Fabric
from session_fabric.trimmer import Trimmer


async def main(url: str, tenant: str) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="service:trimmer") as fabric:
        trimmer = Trimmer(fabric._shared.common, fabric._shared._below, grace_ms=-1, turn_s=2)
        print("ready", flush=True)
        await trimmer.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
