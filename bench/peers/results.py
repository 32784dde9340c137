"""What a run has found, and what may be said of it: medians, spread, ties. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, NamedTuple

from bench.report import middle

OURS: Final = "fabric"


class Row(NamedTuple):
    """A row of the tables."""

    title: str
    unit: str
    better: Literal["more", "less"]


SHOWN: Final[Mapping[str, Row]] = {
    "latency-p50": Row("publish until a page has it, one viewer, p50", "ms", "less"),
    "latency-p99": Row("… p99", "ms", "less"),
    "fanout-100": Row("fan-out to 100, deliveries", "/s", "more"),
    "fanout-1000": Row("fan-out to 1,000, deliveries", "/s", "more"),
    "streams": Row("200 streams, one viewer each, deliveries", "/s", "more"),
    "tokens-p50": Row("200 streams at 20 tokens/s, p50", "ms", "less"),
    "tokens-p99": Row("… p99", "ms", "less"),
    "bytes": Row("… bytes a token beyond its text", "B", "less"),
    "append": Row("durable appends, one session, one after the other", "/s", "more"),
    "append-many": Row("durable appends, 64 sessions at once", "/s", "more"),
    "catchup": Row("catch-up of 10,000 events", "ms", "less"),
    "catchup-again": Row("… by who comes next, the first still there", "ms", "less"),
    "latejoin": Row("late join in mid-answer, 2,000 tokens written", "ms", "less"),
    "conversation": Row("a conversation of 10,000 tokens opened, 100 answers", "ms", "less"),
    "storm": Row("1,000 viewers back with what they missed", "s", "less"),
    "connection": Row("memory of a connection, all servers", "KiB", "less"),
    "idle-session": Row("memory of an idle session, all servers", "KiB", "less"),
    "crash": Row("an agent killed until a viewer is told", "ms", "less"),
    "crash-settled": Row("… until what becomes of its run is told", "ms", "less"),
    "vanish": Row("an agent's machine vanished until a viewer knows", "s", "less"),
}
# What measures several rows at once, by its rows.
_MEASURED_BY: Final = {
    **dict.fromkeys(("latency-p50", "latency-p99"), "latency"),
    **dict.fromkeys(("tokens-p50", "tokens-p99", "bytes"), "tokens"),
    "crash-settled": "crash",
    "catchup-again": "catchup",
}


def measured_by(row: str) -> str:
    """Return the name of the measurement that a row is from."""
    return _MEASURED_BY.get(row, row)


@dataclass
class Found:
    """What was found of one peer.

    `missing`: why it was not measured; `only`: rows that it is there for. `samples`: one a round; notes and faults by
    row.
    """

    title: str
    keeps: str
    version: str = ""
    missing: str = ""
    only: Sequence[str] = field(default_factory=list)
    cannot: Mapping[str, str] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


@dataclass
class Results:
    """One run."""

    machine: str
    date: str
    rounds: int
    quick: bool
    peers: dict[str, Found] = field(default_factory=dict)
    not_measured: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Results:
    told: dict[str, Any] = json.loads(text)
    peers = {name: Found(**found) for name, found in told.pop("peers").items()}
    return Results(**told, peers=peers)


class Compared(NamedTuple):
    """Theirs against ours. `ratio` above 1: ours is better by so much; `tie`: it is inside the noise."""

    ratio: float
    tie: bool


def spread(samples: Sequence[float]) -> float:
    """Return how far samples lie apart, as a share of their median: (most - least) / median / 2."""
    centre = middle(samples)
    return (max(samples) - min(samples)) / centre / 2 if centre else 0.0


def compare(row: str, ours: Sequence[float], theirs: Sequence[float]) -> Compared:
    """A ratio is a tie where the two ranges of samples overlap, or, with one sample, where it is within a tenth."""
    one, other = middle(ours), middle(theirs)
    ratio = one / other if SHOWN[row].better == "more" else other / one
    if min(len(ours), len(theirs)) > 1:
        return Compared(ratio, min(ours) <= max(theirs) and min(theirs) <= max(ours))
    return Compared(ratio, 0.9 <= ratio <= 1.1)


def said(found: Found, row: str) -> str:
    """Return what a cell says: a figure, a word for what is not to be had, `cannot`, `failed` or `not measured`."""
    if found.missing:
        return "not measured"
    if row in found.samples:
        samples = found.samples[row]
        apart = f" ±{spread(samples):.0%}" if len(samples) > 1 else ""
        return f"{figure(middle(samples), SHOWN[row].unit)}{apart}{' *' if row in found.notes else ''}"
    by = measured_by(row)
    if (found.only and by not in found.only) or by in found.samples:
        return "–"  # it is not there for that, or has no such thing beside what it tells
    if by in found.cannot:
        return "cannot"
    if by in found.faults:
        return "failed"
    return found.notes.get(row, "not measured")


def figure(value: float, unit: str) -> str:
    """Say a value with three digits or so, and its unit."""
    if unit == "/s":
        for size, name in ((1e6, " M/s"), (1e3, " k/s")):
            if value >= size:
                return f"{value / size:.3g}{name}"
        return f"{value:.0f} /s"
    digits = 2 if value < 1 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} {unit}"
