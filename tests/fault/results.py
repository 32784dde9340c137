"""What came of seeds: kept in one file, the newest run of each, and told in docs/faults.md."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.peers.report import put
from tests.fault.trial import Outcome

_ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = _ROOT / "docs" / "faults" / "results.json"
PAGE: Final = _ROOT / "docs" / "faults.md"
ONE: Final = "result.json"
# How many of many are named.
_NAMED: Final = 10


@dataclass(frozen=True)
class Result:
    """One seed's run. `version`: the commit, `+` where files had been changed; `load`: the
    machine's when it ended; `wrong`: what was not as it must be."""

    seed: int
    version: str
    date: str
    seconds: float
    load: float
    faults: int
    acknowledged: int
    runs: int
    taken_over: int
    deliveries: int
    longest_s: float
    longest: str
    wrong: Sequence[str]


def version() -> str:
    """Return which commit is tried."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=_ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown"
    return said.stdout.strip() or "unknown"


def result_of(outcome: Outcome, seconds: float, tried: str) -> Result:
    pause = outcome.pauses[0] if outcome.pauses else None
    return Result(
        seed=outcome.seed,
        version=tried,
        date=f"{datetime.date.today():%Y-%m-%d}",
        seconds=seconds,
        load=outcome.load,
        faults=len(outcome.done),
        acknowledged=outcome.counts.acknowledged,
        runs=outcome.counts.runs,
        taken_over=outcome.counts.taken_over,
        deliveries=outcome.counts.deliveries,
        longest_s=0.0 if pause is None else round(pause.seconds, 1),
        longest="" if pause is None else str(pause),
        wrong=[*map(str, outcome.verdicts), *outcome.amiss],
    )


def write(path: Path, results: Iterable[Result]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def read(path: Path) -> list[Result]:
    """Return what a file has; nothing where there is none."""
    return [Result(**each) for each in json.loads(path.read_text())] if path.exists() else []


def newest(known: Iterable[Result], more: Iterable[Result]) -> list[Result]:
    """Return each seed's newest result, by seed."""
    return [result for _, result in sorted({result.seed: result for result in (*known, *more)}.items())]


def record(more: Sequence[Result]) -> None:
    """Put results into the file and the page."""
    results = newest(read(RESULTS), more)
    write(RESULTS, results)
    PAGE.write_text(put(PAGE.read_text(), "\n".join(lines(results))))


def lines(results: Sequence[Result]) -> list[str]:
    """Return what docs/faults.md says of them."""
    bad = [result for result in results if result.wrong]
    said = [
        f"{len(results)} seeds, {len(bad)} of them not as they must be: {sum(r.faults for r in results):,} faults, "
        f"{sum(r.acknowledged for r in results):,} calls acknowledged, {sum(r.runs for r in results):,} runs, "
        f"{sum(r.taken_over for r in results):,} taken over, {sum(r.deliveries for r in results):,} deliveries.",
        "",
        "| version | on | seeds | faults made for | load of the machine | longest pause |",
        "|---|---|---|---|---|---|",
    ]
    tried = dict.fromkeys((r.date, r.version, r.seconds) for r in sorted(results, key=lambda r: (r.date, r.version)))
    for date, which, seconds in tried:
        mine = [r for r in results if (r.date, r.version, r.seconds) == (date, which, seconds)]
        longest, loads = max(mine, key=lambda r: r.longest_s), [r.load for r in mine]
        said.append(
            f"| `{which}` | {date} | {_ranges([r.seed for r in mine])} | {seconds:g} s each | "
            f"{min(loads):g} to {max(loads):g} | {longest.longest} (seed {longest.seed}) |"
        )
    for result in bad:
        said += [
            "",
            f"Seed {result.seed}, at `{result.version}`, load {result.load:g}:",
            "",
            *(f"- {wrong}" for wrong in result.wrong[:_NAMED]),
        ]
        said += [f"- and {len(result.wrong) - _NAMED} more"] * (len(result.wrong) > _NAMED)
    return said


def _ranges(seeds: Sequence[int]) -> str:
    """Spell numbers that rise: `1 to 3, 7`."""
    spans: list[list[int]] = []
    for seed in seeds:
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in spans)
