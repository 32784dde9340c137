"""The public conformance suite of the Durable Streams Protocol, as it comes from its authors."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import NamedTuple

NODE = Path(__file__).parent / "node"
# All of version 0.3.6, subscriptions among them.
TESTS = 338
LONG_POLL_S = 2.0


class Report(NamedTuple):
    """What the suite says; `failures` by name, with the first line of what was wrong."""

    passed: int
    failures: list[str]


async def run_suite(base_url: str, directory: Path) -> Report:
    """Run the whole suite against a server."""
    report = directory / "report.json"
    process = await asyncio.create_subprocess_exec(
        "npx",
        "vitest",
        "run",
        "suite.test.mjs",
        "--reporter=json",
        f"--outputFile={report}",
        cwd=NODE,
        env={**os.environ, "STREAMS_URL": base_url, "LONG_POLL_MS": str(int(LONG_POLL_S * 1000) + 500)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert report.exists(), output.decode("utf-8", "replace")[-2000:]
    said = json.loads(report.read_text())
    found = [test for file in said["testResults"] for test in file["assertionResults"]]
    failures = [
        f"{test['fullName']}: {(test['failureMessages'] or [test['status']])[0].splitlines()[0]}"
        for test in found
        if test["status"] != "passed"
    ]
    return Report(sum(test["status"] == "passed" for test in found), failures)
