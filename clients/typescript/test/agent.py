"""An agent that does what lines of its stdin say, and tells what came of it: the other side of the client's tests."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from session_fabric import Fabric, Run
from session_fabric.words.errors import ToolFailed


async def approve(run: Run, order: dict[str, Any]) -> Any:
    approval = await run.approve("Delete 3 files?", to=order.get("to"))
    return {"approved": approval.approved, "by": approval.by}


async def tool(run: Run, order: dict[str, Any]) -> Any:
    try:
        return await run.client_tool(order["tool"], order.get("args", {}), to=order.get("to"))
    except ToolFailed as failed:
        return {"failed": failed.error}


async def listen(run: Run, order: dict[str, Any]) -> Any:
    async for steer in run.steering():
        return steer.text


async def deaf(run: Run, order: dict[str, Any]) -> Any:
    await asyncio.Event().wait()


DO = {"approve": approve, "tool": tool, "listen": listen, "deaf": deaf}


async def obey(fabric: Fabric, order: dict[str, Any]) -> None:
    session = fabric.session(order["session"])
    await session.create()
    said: Any = "stopped"
    async with session.run(order["run"]) as run:
        said = await DO[order["do"]](run, order)
    print(json.dumps({"run": order["run"], "said": said}), flush=True)


async def main(url: str) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Fabric.connect(url, participant="agent:script") as fabric, asyncio.TaskGroup() as group:
        print(json.dumps({"ready": True}), flush=True)
        tasks = []
        while line := await lines.readline():
            tasks.append(group.create_task(obey(fabric, json.loads(line))))
        for task in tasks:
            task.cancel()


asyncio.run(main(sys.argv[1]))
