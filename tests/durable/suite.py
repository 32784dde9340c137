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
    """What the suite says; `failures` by name, with the first line of what was wrong; `groups`: passed, of how many."""

    passed: int
    failures: list[str]
    groups: dict[str, tuple[int, int]]

    def __str__(self) -> str:
        lines = [f"  {passed:>3} of {all:>3}  {group}" for group, (passed, all) in self.groups.items()]
        total = sum(all for _, all in self.groups.values())
        return "\n".join([*lines, f"  {self.passed:>3} of {total:>3}  of the whole suite", *self.failures])


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
    groups: dict[str, tuple[int, int]] = {}
    for test in found:
        group = (test["ancestorTitles"] or [""])[-1]
        passed, of = groups.get(group, (0, 0))
        groups[group] = passed + (test["status"] == "passed"), of + 1
    return Report(sum(test["status"] == "passed" for test in found), failures, groups)
