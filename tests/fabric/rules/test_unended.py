"""Which runs have not ended, and in which order forks go."""

from __future__ import annotations

from session_fabric.offboarding import waves
from session_fabric.records import SessionRecord
from session_fabric.rules.segments import Segment
from session_fabric.rules.unended import Unended


def test_a_run_that_waits_for_people_or_for_another_process_has_not_ended() -> None:
    unended = Unended()
    for name, type, actor in (
        ("r1", "RUN_STARTED", "agent:a"),
        ("/floor", "floor.claimed", "agent:a"),
        ("r2", "RUN_STARTED", "agent:b"),
        ("r3", "RUN_STARTED", "agent:c"),
        ("r1", "run.orphaned", "service:fabric"),
        ("r2", "RUN_FINISHED", "agent:b"),
        ("r3", "run.suspended", "agent:c"),
    ):
        unended.take(name, type, actor)
    assert unended.runs == (("r1", "agent:a"), ("r3", "agent:c"))


def test_forks_are_in_an_earlier_wave_than_what_they_are_of() -> None:
    def record(name: str, *forks: str) -> SessionRecord:
        segment = Segment(1, "S", "e", "t", name, 0)
        return SessionRecord(tenant="t", session=name, created=1, segments=(segment,), forks=forks)

    records = [record("c"), record("b", "c"), record("x"), record("a", "b", "c", "gone")]
    found = [[one.session for one in wave] for wave in waves(records, lambda one: one.session)]
    assert found == [["c", "x"], ["b"], ["a"]]
    assert waves([], lambda one: one.session) == []
