"""How each run of a session went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from session_fabric_cli.inspecting.page import make_page
from session_fabric_cli.inspecting.runs import LEAST_SILENCE_MS, RunLine

from tests.support.findings import BEGAN, HOLDER, SEGMENT, Scene


def runs(scene: Scene) -> list[RunLine]:
    return list(make_page(scene.found, scene.now).runs)


def test_a_run_took_from_its_claim_to_its_end_and_answered_since_it_was_asked() -> None:
    scene = Scene()
    asked = scene.at(1).says("Hello")
    scene.at(3).starts(input=asked)
    scene.at(5).completes("Hello back.")
    scene.at(6).ends(usage={"output_tokens": 3})
    (run,) = runs(scene.at(60))
    assert (run.state, run.took_ms, run.first_ms) == ("completed", 3000, 4000)
    assert (run.messages, run.characters, run.usage) == (1, 11, {"output_tokens": 3})
    assert (run.ended, run.alive, run.open) == (BEGAN + 6000, None, False)


def test_a_silence_is_told_when_it_is_long_and_unusual() -> None:
    scene = Scene()
    scene.at(0).starts()
    for second in (1, 2, 3):
        scene.at(second).add("CUSTOM", run="r1")
    scene.at(33).add("CUSTOM", run="r1")
    scene.at(34).ends()
    (run,) = runs(scene)
    assert [(gap.kind, gap.ms) for gap in run.gaps] == [("silence", 30_000)]


def test_where_everything_is_slow_a_silence_is_nothing_unusual() -> None:
    scene = Scene()
    scene.at(0).starts()
    for second in (20, 40, 60, 90):
        scene.at(second).add("CUSTOM", run="r1")
    (run,) = runs(scene)
    assert not run.gaps


def test_a_long_text_is_no_silence_though_nothing_else_is_kept_of_its_writing() -> None:
    scene = Scene()
    scene.at(0).starts()
    scene.at(60).completes("word " * 200)
    scene.at(61).ends()
    (run,) = runs(scene)
    assert not run.gaps


def test_a_short_text_that_took_long_is_one() -> None:
    scene = Scene()
    scene.at(0).starts()
    scene.at(60).completes("No.")
    scene.at(61).ends()
    (run,) = runs(scene)
    assert [gap.ms for gap in run.gaps] == [60_000]


def test_waiting_for_people_is_no_silence() -> None:
    scene = Scene()
    scene.at(0).starts()
    scene.at(1).add("input.requested", run="r1", id="q", kind="text", title="Why?")
    scene.at(1).add("run.suspended", run="r1", request="q")
    scene.at(301).add("run.resumed", run="r1")
    scene.at(302).ends()
    (run,) = runs(scene)
    assert (run.suspended_ms, run.gaps) == (300_000, [])


def test_time_without_a_process_is_told_with_who_took_over() -> None:
    scene = Scene()
    scene.at(0).starts()
    scene.at(5).add("run.orphaned", "service:fabric", run="r1")
    scene.at(8).add("run.taken_over", "agent:other", run="r1", agent="agent:other", generation=2)
    (run,) = runs(scene.at(9))
    assert (run.orphaned_ms, run.takeovers, run.generation, run.agent) == (3000, 1, 2, "agent:other")
    assert [(gap.kind, gap.since, gap.until) for gap in run.gaps] == [("orphaned", BEGAN + 5000, BEGAN + 8000)]


def test_an_open_run_is_as_silent_as_its_newest_delta_is_old() -> None:
    scene = Scene()
    scene.at(0).starts()
    scene.at(600)
    assert runs(scene)[0].gaps[-1].ms == 600_000
    assert runs(scene.change(wrote={"r1": BEGAN + 599_000}))[0].gaps == []


def test_a_run_lives_as_long_as_the_lease_of_its_process() -> None:
    scene = Scene()
    scene.at(0).starts()
    assert runs(scene)[0].alive is True
    assert runs(scene.change(holders=frozenset()))[0].alive is False
    assert runs(scene)[0].holder == HOLDER


def test_a_run_that_was_under_way_where_a_fork_begins_is_none_of_the_fork() -> None:
    scene = Scene()
    scene.at(0).starts()
    segments = scene.found.record.segments
    later = segments[0].__class__(SEGMENT + 1, "SESSIONS-03", "e", "acme", "fork")
    scene.change(record=scene.found.record.model_copy(update={"segments": (*segments, later)}))
    (run,) = runs(scene.at(100))
    assert (run.forked, run.open, run.gaps[-1:] and run.alive) == (True, False, None if run.gaps else [])


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=30), st.integers(0, 500_000))
def test_whatever_a_run_did_its_gaps_are_in_order_within_it_and_never_short(pauses: list[int], rest: int) -> None:
    scene = Scene()
    scene.at(0).starts()
    second = 0.0
    for pause in pauses:
        second += pause / 1000
        scene.at(second).add("CUSTOM", run="r1")
    (run,) = runs(scene.at(second + rest / 1000))
    assert run.took_ms == scene.now - BEGAN
    assert all(gap.ms >= LEAST_SILENCE_MS for gap in run.gaps)
    assert [gap.since for gap in run.gaps] == sorted(gap.since for gap in run.gaps)
    assert sum(gap.ms for gap in run.gaps) <= run.took_ms
