"""What a soak finds: trends rather than peaks; and a short one that nothing grows in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.soak.__main__ import Soaked, lines, main, soak
from bench.soak.broker import heap_of
from bench.soak.churn import Done
from bench.soak.flat import BOUNDS, Measure, judge, trend, warm_up_s

_HOUR = 3600.0


def _samples(*, growth: float = 0.0, base: float = 100.0, wave: float = 0.0) -> list[tuple[float, float]]:
    """Return an hour of samples that grow by so much behind the warm-up, and go up and down by `wave`."""
    rate = growth / (_HOUR - warm_up_s(_HOUR))
    return [(at, base + rate * at + (wave if at % 60 else -wave)) for at in map(float, range(0, 3601, 15))]


@pytest.mark.parametrize("measure", BOUNDS)
def test_what_does_not_grow_is_flat_however_it_goes_up_and_down(measure: Measure) -> None:
    assert judge(measure, _samples(wave=30.0), _HOUR).flat


@pytest.mark.parametrize("measure", BOUNDS)
def test_what_grows_beyond_its_bound_is_found(measure: Measure) -> None:
    allowed = judge(measure, _samples(), _HOUR).allowed
    assert judge(measure, _samples(growth=0.9 * allowed, base=100.0 - 0.9 * allowed), _HOUR).flat
    assert not judge(measure, _samples(growth=1.5 * allowed), _HOUR).flat


def test_one_peak_at_the_end_is_no_trend() -> None:
    samples = _samples()
    samples[-1] = (samples[-1][0], 10_000.0)
    assert judge("memory", samples, _HOUR).flat


def test_what_grows_in_the_warm_up_alone_is_flat() -> None:
    samples = [(at, min(at, warm_up_s(_HOUR))) for at, _ in _samples()]
    assert judge("memory", samples, _HOUR).flat


@given(st.floats(-100, 100), st.floats(-1000, 1000))
def test_the_trend_of_a_line_is_its_slope(slope: float, base: float) -> None:
    times = [float(at) for at in range(20)]
    assert trend(times, [base + slope * at for at in times]) == pytest.approx(slope, abs=1e-6)


def test_what_a_broker_caches_of_its_files_is_told_from_what_it_holds() -> None:
    block = "0x1\n#\t0x1\tserver.getMsgBlockBuf+0x9\tfilestore.go:1\n"
    other = "0x2\n#\t0x2\tserver.(*stream).storeMsgIdLocked+0x9\tstream.go:1\n"
    sites = f"2: 16777216 [2: 16777216] @ {block}\n1: 4194304 [1: 4194304] @ {other}\n0: 0 [9: 9437184] @ {block}"
    heap = heap_of(f"heap profile: 3: 20971520 [12: 1] @ heap/1048576\n\n{sites}\n# HeapAlloc = 25000000\n")
    assert (round(heap.blocks), round(heap.held)) == (16777218, 25000000 - 16777218)
    with pytest.raises(ValueError, match="no heap profile"):
        heap_of("<html>")


def test_too_few_samples_are_not_judged_by() -> None:
    with pytest.raises(ValueError, match="memory has 2 samples behind the warm-up; 8 are needed"):
        judge("memory", [(3500.0, 1.0), (3600.0, 1.0)], _HOUR)


def test_a_soak_that_grew_or_lost_something_is_not_good() -> None:
    flat, grown = judge("memory", _samples(), _HOUR), judge("memory", _samples(growth=1000.0), _HOUR)
    assert Soaked("a machine", "today", 60, Done(answers=1), {"gateway memory": flat}).good
    assert not Soaked("a machine", "today", 60, Done(answers=1), {"gateway memory": grown}).good
    lost = Soaked("a machine", "today", 60, Done(answers=1, wrong=["soak-1 has ''"]), {"gateway memory": flat})
    assert not lost.good
    assert "- soak-1 has ''" in lines(lost)
    assert not Soaked("a machine", "today", 60, Done(), {"gateway memory": flat}).good


def test_a_time_that_is_too_short_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--minutes", "0.1"])
    assert "--minutes 0.1 is too short to judge anything by" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_minutes_of_comings_and_goings_leave_nothing_behind() -> None:
    # The warm-up has to be as long as markers of what was deleted stay: before that, subjects grow for good reason.
    soaked = await soak(110.0, lambda said: None, agent_every_s=15.0)
    assert soaked.done.wrong == []
    assert soaked.done.answers > 0
    assert soaked.done.kills > 0
    assert soaked.grown == [], "\n".join(lines(soaked))
