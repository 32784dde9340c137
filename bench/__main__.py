"""`python -m bench`: measure the rows and print them beside their bars."""

from __future__ import annotations

import argparse
import fcntl
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.plan import Plan
from bench.report import Row, as_json, show
from bench.rows import ROWS


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other benchmark runs on this machine: two would share the cores that each is pinned to."""
    with (Path(tempfile.gettempdir()) / "session-fabric-bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another benchmark runs on this machine; waiting for its end …", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS), help="which, separated by commas: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians are shown")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--quick", action="store_true", help="one round of a fraction of the load: for a look")
    options = parser.parse_args()
    plan = Plan(1, quick=True) if options.quick else Plan(options.rounds)
    names = [name.strip() for name in options.rows.split(",")]
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    rows: list[Row] = []
    with alone():
        for name in names:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            try:
                rows += ROWS[name](plan)
            except Exception as error:
                # The rows after it, and those before, are worth having.
                traceback.print_exc()
                fault = f"{type(error).__name__}: {error}"
                rows.append(Row(name, "", "", 0.0, None, "more", faults=[fault]))
            if options.json is not None:
                options.json.write_text(as_json(rows))
    show(rows, print)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
