"""`python -m bench.peers`: measure ours and others, side by side, and write down what was found."""

from __future__ import annotations

import argparse
import datetime
import platform
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.__main__ import alone
from bench.peers.peer import Missing, Peer
from bench.peers.registry import NOT_MEASURED, PEERS
from bench.peers.report import RESULTS
from bench.peers.results import OURS, Found, Results, from_json, measured_by
from bench.peers.rows import ONCE, ROWS
from bench.peers.table import show
from bench.plan import Plan
from bench.report import machine


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__)
    parser.add_argument("--only", default=",".join(PEERS), help="which peers, separated by commas: %(default)s")
    parser.add_argument("--rows", default=",".join(ROWS), help="which measurements: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="how often all of them take turns: %(default)s")
    parser.add_argument(
        "--minutes", type=float, default=16, help="no further round begins that would not end within: %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="one round of a fraction of the load: a look, no result")
    parser.add_argument("--json", type=Path, help="default: docs/peers/results.json; quick, a temporary file")
    parser.add_argument("--add", action="store_true", help="keep what the file says of other peers and rows")
    options = parser.parse_args(arguments)
    only, rows = (_named(parser, said, known) for said, known in ((options.only, PEERS), (options.rows, ROWS)))
    options.json = options.json or (Path(tempfile.gettempdir()) / "peers-quick.json" if options.quick else RESULTS)
    plan = Plan(1, quick=True) if options.quick else Plan(options.rounds)
    kept = from_json(options.json.read_text()).peers if options.add and options.json.is_file() else {}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    # A thousand viewers have a thousand sockets, on both sides.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with alone():
        results = measure(
            only, rows, plan, kept, lambda results: options.json.write_text(results.as_json()), options.minutes * 60
        )
    show(results)
    print(options.json)
    ours = results.peers.get(OURS)
    return 1 if ours is not None and ours.faults else 0


def measure(
    only: Sequence[str],
    rows: Sequence[str],
    plan: Plan,
    kept: Mapping[str, Found],
    keep: Callable[[Results], object],
    within_s: float = float("inf"),
) -> Results:
    """Measure these rows of these peers, who take turns.

    `kept`: what stays of an earlier run. `keep` is called after each turn. `within_s`: no round begins
    that would end later, if it takes as long as those before; the first one does.
    """
    results = Results(f"{platform.system()} {platform.machine()}, {machine()}", _today(), plan.rounds, plan.quick)
    results.not_measured = NOT_MEASURED
    for name in PEERS:
        if name in only:
            results.peers[name] = _begin(PEERS[name](), kept.get(name), rows)
        elif name in kept:
            results.peers[name] = kept[name]
    begun, longest_s = time.monotonic(), 0.0
    for number in range(plan.rounds):
        round_begun = time.monotonic()
        if number and round_begun - begun + longest_s > within_s:
            break
        once_s = 0.0
        results.rounds = number + 1
        # Whoever is first in one round is last in another.
        first = number % len(only)
        for name in [*only[first:], *only[:first]]:
            if not results.peers[name].missing:
                once_s += _visit(PEERS[name](), results.peers[name], rows, number, plan)
            keep(results)
        longest_s = max(longest_s, time.monotonic() - round_begun - once_s)
    return results


def _today() -> str:
    return f"{datetime.date.today():%Y-%m-%d}"


def _named(parser: argparse.ArgumentParser, said: str, known: object) -> list[str]:
    names = [name.strip() for name in said.split(",") if name.strip()]
    assert isinstance(known, dict)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def _begin(peer: Peer, kept: Found | None, rows: Sequence[str]) -> Found:
    found = Found(peer.title, peer.keeps, cannot=dict(peer.cannot), only=list(peer.only))
    if kept is not None:
        found.samples, found.notes, found.faults = kept.samples, kept.notes, kept.faults
        for said in (found.samples, found.notes, found.faults):
            for row in [row for row in said if measured_by(row) in rows]:
                del said[row]
    try:
        found.version = peer.version()
    except Missing as missing:
        found.missing = str(missing)
        print(f"{peer.name} is not measured: {missing}", file=sys.stderr)
    return found


def _visit(peer: Peer, found: Found, rows: Sequence[str], number: int, plan: Plan) -> float:
    """Start a peer, and measure each row once. What fails is told, and the others go on.

    Returns the seconds that went to what is not done in each round.
    """
    wanted = [row for row in rows if row in (peer.only or rows) and row not in peer.cannot]
    todo = [row for row in wanted if not (number and row in ONCE)]
    began, once_s = time.monotonic(), 0.0
    print(f"round {number + 1}, {peer.name}:", end="", file=sys.stderr, flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="sf-peers-") as directory, peer.running(Path(directory)):
            for row in todo:
                print(f" {row}", end="", file=sys.stderr, flush=True)
                row_began = time.monotonic()
                _measure(peer, found, row, plan)
                once_s += (time.monotonic() - row_began) * (row in ONCE)
    except Missing as missing:
        found.missing = str(missing)
    except Exception as error:
        print(file=sys.stderr)
        traceback.print_exc()
        found.faults |= {row: f"{type(error).__name__}: {error}" for row in todo if row not in found.samples}
    print(f" ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return once_s


def _measure(peer: Peer, found: Found, row: str, plan: Plan) -> None:
    try:
        said = ROWS[row](peer, plan)
    except Exception as error:
        print(file=sys.stderr)
        traceback.print_exc()
        found.faults[row] = f"{type(error).__name__}: {error}"
        return
    for name, value in said.values.items():
        found.samples.setdefault(name, []).append(value)
    found.notes |= said.notes


if __name__ == "__main__":
    raise SystemExit(main())
