"""Charts of a run, as SVG: one bar for each peer, on a scale of powers of ten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.peers.results import OURS, SHOWN, Results, figure
from bench.report import middle

_CHARTS: Final[Mapping[str, Sequence[str]]] = {
    "throughput": ("fanout-100", "fanout-1000", "streams", "append", "append-many"),
    "time": (
        "latency-p50",
        "latency-p99",
        "tokens-p50",
        "catchup",
        "catchup-again",
        "latejoin",
        "conversation",
        "storm",
    ),
    "cost": ("crash", "vanish", "connection", "idle-session", "bytes"),
}
_OURS, _THEIRS = "#1f6feb", "#9aa4b2"


def draw(results: Results, directory: Path) -> list[Path]:
    """Write a file for each group of rows; return them."""
    directory.mkdir(parents=True, exist_ok=True)
    # The same results make the same bytes.
    with mpl.rc_context({"svg.hashsalt": "session-fabric", "svg.fonttype": "none", "font.size": 8}):
        return [_draw(results, rows, directory / f"{name}.svg") for name, rows in _CHARTS.items()]


def _draw(results: Results, rows: Sequence[str], path: Path) -> Path:
    shown = [row for row in rows if any(row in found.samples for found in results.peers.values())]
    heights = [sum(row in found.samples for found in results.peers.values()) + 1.2 for row in shown]
    drawing = Figure(figsize=(8, 0.2 * sum(heights) + 0.5), layout="constrained")
    if shown:
        plots = drawing.subplots(len(shown), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
        for row, plot in zip(shown, plots[:, 0], strict=True):
            known = [(name, found.samples[row]) for name, found in results.peers.items() if row in found.samples]
            values = [middle(samples) for _, samples in known]
            error = [[value - min(s) for value, (_, s) in zip(values, known, strict=True)]]
            error.append([max(s) - value for value, (_, s) in zip(values, known, strict=True)])
            colors = [_OURS if name.startswith(OURS) else _THEIRS for name, _ in known]
            plot.barh([name for name, _ in known], values, color=colors, xerr=error, ecolor="#57606a")
            plot.bar_label(plot.containers[-1], [figure(value, SHOWN[row].unit) for value in values], padding=4)
            plot.set_xscale("log")
            plot.invert_yaxis()
            plot.margins(x=0.25)
            better = "longer is better" if SHOWN[row].better == "more" else "shorter is better"
            plot.set_title(f"{_whole(row)} ({SHOWN[row].unit}; {better})", loc="left", fontsize=9)
            plot.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, format="svg", metadata={"Date": None})
    return path


def _whole(row: str) -> str:
    """Return the title of a row, with that of the row that it goes on with."""
    title = SHOWN[row].title
    if not title.startswith("… "):
        return title
    before = list(SHOWN)[list(SHOWN).index(row) - 1]
    return f"{_whole(before).removesuffix(', p50')}, {title.removeprefix('… ')}"
