"""Whether what was sampled is flat: the trend after the warm-up, held against a bound. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from bench.report import middle

Measure = Literal["memory", "descriptors", "threads", "tasks", "consumers", "subjects", "connections", "feeds"]


class Bound(NamedTuple):
    """What may be grown from the warm-up's end to the end: the larger of so much, and a share of the median."""

    much: float
    share: float
    unit: str


# Heaps of Python and Go breathe; what leaks does so for as long as it goes on.
BOUNDS: Final[dict[Measure, Bound]] = {
    "memory": Bound(16.0, 0.10, "MiB"),
    "descriptors": Bound(8, 0.10, ""),
    "threads": Bound(4, 0.10, ""),
    "tasks": Bound(20, 0.15, ""),
    "consumers": Bound(4, 0.10, ""),
    "subjects": Bound(40, 0.15, ""),
    "connections": Bound(4, 0.15, ""),
    "feeds": Bound(10, 0.20, ""),
}
# A quarter of the time, and a minute where that can be: so long markers of what was deleted stay at the broker.
_WARM_UP: Final = 0.25
_MARKERS_S: Final = 60.0
_SHORTEST: Final = 0.6
_FEWEST: Final = 8


class Judged(NamedTuple):
    """`growth`: by the trend, over the time that is judged; `first` and `last`: medians of its first and last tenth."""

    middle: float
    first: float
    last: float
    growth: float
    allowed: float

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed


def trend(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope by Theil and Sen: the median of all pairs' slopes, which single peaks do not turn."""
    slopes = [
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for earlier in range(len(times))
        for later in range(earlier + 1, len(times))
        if times[later] > times[earlier]
    ]
    return middle(slopes) if slopes else 0.0


def warm_up_s(whole_s: float) -> float:
    """Return how much of a run is its warm-up."""
    return max(_WARM_UP * whole_s, min(_MARKERS_S, _SHORTEST * whole_s))


def judge(measure: Measure, samples: Sequence[tuple[float, float]], whole_s: float) -> Judged:
    """Judge samples of (seconds since the beginning, value), of a run of `whole_s` seconds.

    Raises `ValueError` where there are too few behind the warm-up.
    """
    judged = [(at, value) for at, value in samples if at >= warm_up_s(whole_s)]
    if len(judged) < _FEWEST:
        raise ValueError(f"{measure} has {len(judged)} samples behind the warm-up; {_FEWEST} are needed")
    times, values = [at for at, _ in judged], [value for _, value in judged]
    tenth = max(1, len(values) // 10)
    bound, centre = BOUNDS[measure], middle(values)
    growth = trend(times, values) * (times[-1] - times[0])
    return Judged(
        centre, middle(values[:tenth]), middle(values[-tenth:]), growth, max(bound.much, bound.share * centre)
    )
