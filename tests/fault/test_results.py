"""What is kept of seeds, and told of them in docs/faults.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.peers.report import put
from tests.fault.history import Verdict
from tests.fault.pause_rules import Pause
from tests.fault.results import PAGE, RESULTS, Result, lines, newest, read, result_of, write
from tests.fault.trial import Counts, Outcome

GOOD = Result(
    1, "abc1234", "2026-11-30", 25.0, 3.5, 11, 500, 40, 2, 10_000, 7.5, "7.5 s to b1.1/s0-0 in s0: kill n1", []
)


def test_the_newest_result_of_a_seed_is_kept_by_seed(tmp_path: Path) -> None:
    file = tmp_path / "faults" / "results.json"
    assert read(file) == []
    write(file, [replace(GOOD, seed=3), replace(GOOD, wrong=["lost: something"])])
    kept = newest(read(file), [GOOD, replace(GOOD, seed=2)])
    assert [(result.seed, result.wrong) for result in kept] == [(1, []), (2, []), (3, [])]


def test_what_is_told_names_the_seeds_by_version_and_all_that_was_wrong() -> None:
    bad = replace(GOOD, seed=7, wrong=[f"lost: {n}" for n in range(12)])
    other = replace(GOOD, seed=9, version="def5678", longest_s=9.0, longest="9.0 s to f1.1 in s1: freeze n2")
    said = "\n".join(lines([GOOD, replace(GOOD, seed=2), replace(GOOD, seed=3), bad, other]))
    assert said.startswith("5 seeds, 1 of them not as they must be: 55 faults, 2,500 calls acknowledged")
    assert "| `abc1234` | 2026-11-30 | 1 to 3, 7 | 25 s each | 3.5 to 3.5 | 7.5 s to b1.1" in said
    assert "| `def5678` | 2026-11-30 | 9 | 25 s each | 3.5 to 3.5 | 9.0 s to f1.1 in s1: freeze n2 (seed 9) |" in said
    assert "Seed 7, at `abc1234`, load 3.5:" in said
    assert "- lost: 9\n- and 2 more" in said


def test_what_came_of_a_trial_is_its_result() -> None:
    outcome = Outcome(
        4, Path("nowhere"), [Verdict("lost", "e1", ("1_1",))], ["w1.1 ended by itself"], ["kill n1, 1.0 s"]
    )
    outcome.pauses, outcome.counts = [Pause("f1.1", "s0", 1.0, 4.25, ("kill n1",), 0.0)], Counts(9, 8, 3, 1, 70)
    result = result_of(outcome, 25.0, "abc1234")
    assert (result.seed, result.faults, result.acknowledged, result.deliveries, result.longest_s) == (4, 1, 8, 70, 4.2)
    assert result.wrong == ["lost: e1 [1_1]", "w1.1 ended by itself"]


def test_the_page_says_what_the_file_has() -> None:
    results = read(RESULTS)
    page = PAGE.read_text()
    assert put(page, "\n".join(lines(results)) if results else "No run is recorded yet.") == page
