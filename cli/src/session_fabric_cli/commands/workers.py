"""`fabricctl agent ls`: who serves which pool."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from session_fabric.census import Process, processes

from session_fabric_cli.opening import operated, tell
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import ago, counted, print_rows
from session_fabric_cli.versions import of_processes

_COLUMNS: Final = {
    "tenant": "tenant",
    "pool": "pool",
    "participant": "participant",
    "worker": "worker",
    "version": "version",
    "host": "host",
    "runs": "runs",
    "concurrency": "of",
    "up": "since",
    "state": "state",
}


@on_broker
async def list_workers(
    options: Options,
    every: Annotated[bool, typer.Option("--all-tenants", help="Of all tenants, not only of one.")] = False,
) -> None:
    """List who serves which pool now: workers, with their runs in hand.

    Whoever holds credentials of `agent grant` and serves no pool just now is not among them: no list is kept of what
    was granted.
    """
    async with operated(options) as broker:
        found = [one for one in await processes(broker) if one.kind == "agent"]
    tell(of_processes([one for one in found if every or one.tenant == options.tenant]))
    now = time.time()
    rows = [row for one in found if every or one.tenant == options.tenant for row in _rows(one)]
    whose = "any tenant" if every else f"tenant {options.tenant}"
    if options.output == "table":
        rows = [{**row, "up": ago(row.get("since"), now)} for row in rows]
    print_rows(options.output, rows, _COLUMNS, empty=f"Nobody serves a pool of {whose} now.")
    silent = sum(one.version is None for one in found)
    if silent and options.output == "table":
        print(
            f"{counted(silent, 'process holds', 'processes hold')} a lease and no answer: hung, or being found dead.",
            file=sys.stderr,
        )


def _rows(one: Process) -> Iterator[dict[str, Any]]:
    for name, served in one.told.items():
        if not name.startswith("pool ") or not isinstance(served, dict):
            continue
        yield {
            "tenant": one.tenant,
            "worker": one.holder,
            "version": one.version,
            "host": one.told.get("host"),
            "pid": one.told.get("pid"),
            **served,
            "state": "stopping" if served.get("stopping") else "",
        }
