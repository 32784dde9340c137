"""Redacts one message, as a process of its own that can be killed.

`python -m tests.system.redactor URL TENANT SESSION MESSAGE`
"""

from __future__ import annotations

import asyncio
import sys

from session_fabric import Fabric


async def main(url: str, tenant: str, session: str, message: str) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="operator:ann") as fabric:
        await fabric.session(session).redact(message, reason="A card number.")
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
