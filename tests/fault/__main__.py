"""`python -m tests.fault`: faults by seed; see docs/faults.md. `make fault` calls it."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

from tests.fault import ending
from tests.fault.hosts import why_not
from tests.fault.results import ONE, Result, read, record, result_of, version, write
from tests.fault.telling import tell
from tests.fault.trial import Outcome, judge, trial
from tests.support.servers import die_with_parent

SECONDS = 30.0
# Longer than a seed takes to be put in order: a frozen broker is given 10 s to end.
_ENDS_S = 45.0
_TOLD = 130


def main() -> int:
    parsed = _parser().parse_args()
    if parsed.judge:
        outcome = Outcome(0, parsed.judge)
        judge(outcome)
        print("\n".join(tell(outcome)))
        return 0 if outcome.good else 1
    ending.hold()
    try:
        return _run(parsed)
    except asyncio.CancelledError:
        return _TOLD


def _run(parsed: argparse.Namespace) -> int:
    reason = "as it was asked for" if parsed.loopback else why_not()
    if parsed.alone:
        return _alone(parsed, separate=reason is None)
    print(f"Hosts: {'each in a network of its own' if reason is None else f'all on loopback ({reason})'}.", flush=True)
    results, lost = ending.run(_Seeds(parsed).run())
    failed = sorted([*(result.seed for result in results if result.wrong), *lost])
    if parsed.docs:
        record(results)
    print(f"{len(results)} seeds, {len(failed)} failed{': ' if failed else ''}{', '.join(map(str, failed))}.")
    return 1 if failed else 0


def _alone(parsed: argparse.Namespace, *, separate: bool) -> int:
    """Be the process of one seed."""
    directory, tried = parsed.keep / f"seed-{parsed.seed}", version()
    outcome = ending.run(trial(parsed.seed, parsed.seconds, directory, separate=separate))
    write(directory / ONE, [result_of(outcome, parsed.seconds, tried)])
    print("\n".join(tell(outcome)), flush=True)
    return 0 if outcome.good else 1


class _Seeds:
    """Runs seeds, each in a process of its own, so many at a time."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        self._parsed = parsed
        self._deadline = time.monotonic() + parsed.minutes * 60
        self._results: list[Result] = []
        self._lost: list[int] = []  # those whose process ended without a result

    async def run(self) -> tuple[list[Result], list[int]]:
        seeds = self._seeds()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._parsed.at_once):
                group.create_task(self._some(seeds))
        return self._results, self._lost

    def _seeds(self) -> Iterator[int]:
        parsed = self._parsed
        first = parsed.seed if parsed.seed is not None else random.randrange(1_000_000)
        for seed in count(first):
            if time.monotonic() > self._deadline if parsed.minutes else seed >= first + parsed.seeds:
                return
            yield seed

    async def _some(self, seeds: Iterator[int]) -> None:
        for seed in seeds:
            await self._one(seed)

    async def _one(self, seed: int) -> None:
        parsed = self._parsed
        result = parsed.keep / f"seed-{seed}" / ONE
        result.unlink(missing_ok=True)
        arguments = ["--alone", "--seed", str(seed), "--seconds", str(parsed.seconds), "--keep", str(parsed.keep)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fault", *arguments, *(["--loopback"] if parsed.loopback else [])),
            stdout=asyncio.subprocess.PIPE,
            # It has networks and disks to put in order, also when we are killed.
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )
        try:
            said, _ = await process.communicate()
        except asyncio.CancelledError:
            await _ended(process)
            raise
        print(said.decode(), end="", flush=True)
        found = read(result)
        self._results += found
        self._lost += [] if found else [seed]


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Tell the process of a seed to end, and wait until it has put in order what it made."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_ENDS_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description="Faults by seed, and what came of them.")
    add = parser.add_argument
    add("--seed", type=int, help="the first seed; at random otherwise")
    add("--seeds", type=int, default=1, help="how many seeds")
    add("--minutes", type=float, default=0.0, help="as many seeds as that takes, instead")
    add("--at-once", type=int, default=1, help="how many seeds at a time; one takes half of a core (%(default)s)")
    add("--seconds", type=float, default=SECONDS, help="for how long faults are made with each")
    add("--keep", type=Path, default=Path(".fault"), help="where journals and logs are kept")
    add("--loopback", action="store_true", help="all hosts on loopback, also where they could have their own networks")
    add("--docs", action="store_true", help="put what came of it into docs/faults.md")
    add("--judge", type=Path, metavar="DIR", help="hold the journals of a directory against the promises again")
    add("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
