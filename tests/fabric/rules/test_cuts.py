"""Where a log may be cut: whole messages on either side, and nothing that somebody is still at."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric.rules.cuts import GRACE_MS, Cut, Cutting, Seen, Weight
from session_fabric.rules.retention import Retention
from session_fabric.words.events import (
    HANDOFF_OFFERED,
    MESSAGE_COMPLETED,
    MESSAGE_USER,
    RUN_FINISHED,
    RUN_OVER,
    RUN_STARTED,
)
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Kind

NOW = 10**10
ANSWER_MS = 600_000


def seen(n: int, type: str, *, kind: Kind = "ev", name: str = "_", age_ms: int = 10**9, bytes: int = 10) -> Seen:
    return Seen(Offset(1, n), NOW - age_ms, bytes, kind, name, type)


def story(steps: list[tuple[str, int]], newest_age_ms: int = 10**8) -> list[Seen]:
    """Make a log of steps (what, which run), evenly spaced in time."""
    events: list[Seen] = []
    open: set[int] = set()
    for n, (what, run) in enumerate(steps, 1):
        age = newest_age_ms + (len(steps) - n) * 1000
        if what == "user":
            events.append(seen(n, MESSAGE_USER, kind="in", name="default", age_ms=age))
        elif run not in open:
            open.add(run)
            events.append(seen(n, RUN_STARTED, kind="own", name=f"r{run}", age_ms=age))
        elif what == "end":
            open.discard(run)
            events.append(seen(n, RUN_FINISHED, kind="own", name=f"r{run}", age_ms=age))
        else:
            events.append(seen(n, MESSAGE_COMPLETED, age_ms=age))
    return events


def cut(events: list[Seen], limits: Retention, grace_ms: int = GRACE_MS) -> tuple[Cut | None, set[str]]:
    """Cut a log; return where, and the runs that were under way."""
    whole = sum((Weight(1, one.bytes) for one in events), Weight())
    cutting = Cutting(limits, whole, ANSWER_MS, NOW, grace_ms)
    for one in events:
        if not cutting.take(one):
            break
    begun = {one.name for one in events if one.kind == "own"}
    ended: set[str] = set()
    for one in events:
        if one.kind == "own":
            (ended.add if one.type in RUN_OVER else ended.discard)(one.name)
    return cutting.cut(begun - ended), begun - ended


steps = st.lists(st.tuples(st.sampled_from(["user", "said", "end"]), st.integers(0, 3)), max_size=40)
ages = st.sampled_from([0, GRACE_MS, GRACE_MS + 1, ANSWER_MS + 1, 10**8])


@given(steps, st.integers(0, 40), ages)
@example([("said", 0), ("said", 1), ("end", 0), ("said", 2), ("end", 1), ("said", 1)], 1, 10**8)
def test_a_cut_keeps_what_is_under_way_and_divides_nothing(
    steps: list[tuple[str, int]], kept: int, newest_age_ms: int
) -> None:
    events = story(steps, newest_age_ms)
    found, under_way = cut(events, Retention(max_events=max(kept, 1)))
    if found is None:
        return
    gone = [one for one in events if one.at <= found.at]
    rest = [one for one in events if one.at > found.at]
    assert found.weight == Weight(len(gone), 10 * len(gone))
    assert len(gone) <= len(events) - max(kept, 1)
    assert not any(one.kind == "own" and one.name in under_way and one.type == RUN_STARTED for one in gone[-1:])
    for run in under_way:
        begun = [one.at for one in events if one.name == run]
        last_end = max((one.at for one in events if one.name == run and one.type in RUN_OVER), default=Offset(0, 0))
        assert min(at for at in begun if at > last_end) > found.at
    assert all(NOW - one.ts > GRACE_MS for one in gone)
    assert all(NOW - one.ts > ANSWER_MS for one in gone if one.kind == "in")
    astride = {one.name for one in gone if one.kind == "own" and one.type not in RUN_OVER}
    astride -= {one.name for one in gone if one.type in RUN_OVER}
    assert not (astride & {one.name for one in rest}) or gone[-1].type == MESSAGE_COMPLETED


@given(steps, st.integers(60, 10**6))
def test_by_age_nothing_that_is_young_enough_goes(steps: list[tuple[str, int]], max_age_s: int) -> None:
    events = story(steps)
    found, _ = cut(events, Retention(max_age_s=max_age_s))
    if found is not None:
        assert all(one.ts < NOW - max_age_s * 1000 for one in events if one.at <= found.at)


def test_a_log_without_runs_is_cut_to_the_event() -> None:
    events = [seen(n, "app.note") for n in range(1, 11)]
    assert cut(events, Retention(max_events=3)) == (Cut(Offset(1, 7), Weight(7, 70)), set())
    assert cut(events, Retention(max_bytes=35)) == (Cut(Offset(1, 7), Weight(7, 70)), set())
    assert cut(events, Retention(max_events=10)) == (None, set())


def test_where_runs_that_have_ended_overlap_all_along_the_cut_is_behind_a_whole_message() -> None:
    overlapping = story([("said", 0), ("said", 0), ("said", 1), ("end", 0), ("said", 1), ("said", 0), ("end", 1)])
    found, under_way = cut(overlapping, Retention(max_events=1))
    assert under_way == {"r0"}
    assert found is not None
    assert found.at == Offset(1, 5)


def test_an_offer_that_may_be_accepted_yet_stays() -> None:
    hour = 3_600_000
    events = [seen(1, "app.note"), seen(2, HANDOFF_OFFERED, age_ms=hour), seen(3, "app.note", age_ms=hour)]
    found, _ = cut(events, Retention(max_age_s=60))
    assert found is not None
    assert found.at == Offset(1, 1)


def test_a_runs_past_in_a_source_does_not_hold_back_what_was_forked() -> None:
    cutting = Cutting(Retention(max_events=1), Weight(3, 30), ANSWER_MS, NOW)
    assert cutting.take(seen(1, RUN_STARTED, kind="own", name="r1"))
    cutting.past()
    assert cutting.take(seen(2, "app.note"))
    assert cutting.cut(()) == Cut(Offset(1, 2), Weight(2, 20))
