"""The gateway's log is read by machines: each line is one JSON object, whoever wrote it."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import asyncio, logging, structlog
from session_fabric_gateway import logs
logs.to_stderr("info")
structlog.get_logger().info("draining", connections=3)
logging.getLogger("aiohttp.server").warning("a %s with\\nlines", "word")
logging.getLogger("quiet").info("not a warning")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("nats").exception("it failed")
async def main():
    asyncio.get_running_loop().call_exception_handler({"message": "Task exception was never retrieved"})
asyncio.run(main())
"""


def test_what_libraries_log_is_json_too() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(e["event"], e["level"], e.get("logger")) for e in events] == [
        ("draining", "info", None),
        ("a word with\nlines", "warning", "aiohttp.server"),
        ("it failed", "error", "nats"),
        ("Task exception was never retrieved", "error", "asyncio"),
    ]
    assert all("timestamp" in event for event in events)
    assert "ZeroDivisionError" in events[2]["exception"]
