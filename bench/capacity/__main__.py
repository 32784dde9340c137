"""`python -m bench.capacity`: what so many sessions take in machines and money; `--measure`: what that rests on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields

from rich.console import Console
from rich.table import Table

from bench.capacity.check import Idle, judge, measure
from bench.capacity.inputs import GB, GIB, Machines, Prices, UnitCosts, Usage, WrongInput
from bench.capacity.model import Capacity, capacity

_SIZES = "1e5,1e6,1e7,1e8"
_GROUPS = (Usage, UnitCosts, Machines, Prices)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.capacity", description=__doc__)
    parser.add_argument("--sessions", default=_SIZES, help="how many, several separated by commas: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/sizing.md has them")
    parser.add_argument("--measure", metavar="SIZES", help="fill a broker of one's own with idle sessions, and look")
    parser.add_argument("--streams", type=int, default=16, metavar="N", help="of that broker: %(default)s")
    for group in _GROUPS:
        said = parser.add_argument_group(group.__name__, (group.__doc__ or "").split("\n\n")[0])
        for each in fields(group):
            if each.name != "sessions":
                kind = type(each.default) if each.default is not None else float
                said.add_argument(f"--{each.name.replace('_', '-')}", type=kind, default=each.default, metavar="N")
    options = parser.parse_args(arguments)
    said_of = {group: {each.name: getattr(options, each.name) for each in fields(group)} for group in _GROUPS}
    try:
        if options.measure:
            return _measured(_counts(options.measure), options.streams)
        costs, machines, prices = (
            UnitCosts(**said_of[UnitCosts]),
            Machines(**said_of[Machines]),
            Prices(**said_of[Prices]),
        )
        found = [
            (sessions, capacity(Usage(**{**said_of[Usage], "sessions": sessions}), costs, machines, prices))
            for sessions in _counts(options.sessions)
        ]
    except WrongInput as wrong:
        parser.error(str(wrong))
    _print(table(found, options.currency), options.markdown)
    return 0


def table(found: Sequence[tuple[float, Capacity]], currency: str) -> list[list[str]]:
    """Return the table, its head first."""
    return [["sessions", *(f"{sessions:,.0f}" for sessions, _ in found)], *lines(found, currency)]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---|" + "---|" * (len(rows[0]) - 1), *others])


def _counts(said: str) -> list[float]:
    try:
        return [float(one) for one in said.split(",")]
    except ValueError:
        raise WrongInput(f"{said!r} are no numbers: such as 1e5,1e6") from None


def lines(found: Sequence[tuple[float, Capacity]], currency: str) -> list[list[str]]:
    """Return the rows of the table: what it is, and for each size how much."""
    said = [one for _, one in found]
    rows: list[list[str]] = [
        ["connections at the peak", *(f"{one.load.connections:,.0f}" for one in said)],
        ["answers under way", *(f"{one.load.answers:,.0f}" for one in said)],
        ["tokens/s stored", *(f"{one.load.tokens:,.0f}" for one in said)],
        ["gateway processes (one core each)", *(f"{one.gateways.processes:,}" for one in said)],
        ["… decided by", *(one.gateways.decided_by for one in said)],
        ["… memory of each", *(_size(one.gateways.memory) for one in said)],
        ["broker nodes", *(f"{one.brokers.nodes:,}" for one in said)],
        ["… decided by", *(one.brokers.decided_by for one in said)],
        ["… clusters or accounts", *(f"{one.brokers.clusters:,}" for one in said)],
        ["… streams", *(f"{one.brokers.streams:,}" for one in said)],
        ["… memory of each", *(_size(one.brokers.memory) for one in said)],
        ["… disk of each", *(_size(one.brokers.disk) for one in said)],
        ["… cores used of each", *(f"{one.brokers.cores:.1f}" for one in said)],
        ["out at the peak", *(f"{one.load.out_bytes * 8 / 1e6:,.0f} Mbit/s" for one in said)],
        ["between nodes at the peak", *(f"{one.load.between_bytes * 8 / 1e6:,.0f} Mbit/s" for one in said)],
    ]
    parts = ("brokers", "gateways", "disk", "out", "between")
    rows += [[f"{currency} a month: {part}", *(f"{getattr(one.money, part):,.0f}" for one in said)] for part in parts]
    rows.append([f"{currency} a month", *(f"{one.money.all:,.0f}" for one in said)])
    each = (f"{one.money.all / sessions * 1000:,.2f}" for sessions, one in found)
    rows.append([f"{currency} a month for 1,000 sessions", *each])
    return rows


def _measured(sizes: Sequence[float], streams: int) -> int:
    found: list[Idle] = []
    for idle in measure([int(size) for size in sizes], streams):
        found.append(idle)
        print(
            f"{idle.sessions:,} sessions: {idle.memory_each:.0f} B of memory and {idle.disk_each:.0f} B of disk each; "
            f"append p50 {idle.append_p50_ms:.2f} ms, p99 {idle.append_p99_ms:.2f} ms, worst "
            f"{idle.append_worst_ms:.1f} ms; open p50 "
            f"{idle.open_p50_ms:.2f} ms, p99 {idle.open_p99_ms:.2f} ms; up again after {idle.restart_s:.2f} s",
            flush=True,
        )
    wrong = judge(found)
    for one in wrong:
        print(f"WRONG: {one}")
    return 1 if wrong else 0


def _print(rows: Sequence[Sequence[str]], as_markdown: bool) -> None:
    if as_markdown:
        print(markdown(rows))
        return
    shown = Table()
    for number, name in enumerate(rows[0]):
        shown.add_column(name, justify="right" if number else "left")
    for row in rows[1:]:
        shown.add_row(*row)
    Console(width=120).print(shown)


def _size(size: float) -> str:
    return f"{size / GIB:,.1f} GiB" if size < 1000 * GIB else f"{size / GB:,.0f} GB"


if __name__ == "__main__":
    raise SystemExit(main())
