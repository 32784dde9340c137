"""The bench of peers: what it says of figures, of what is missing, and that it measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers.__main__ import _begin, measure
from bench.peers.peer import Missing
from bench.peers.registry import NOT_MEASURED, PEERS
from bench.peers.report import BEGIN, END, markdown, put
from bench.peers.results import SHOWN, Found, Results, compare, from_json, measured_by, said
from bench.peers.rows import ROWS
from bench.plan import Plan

_SAMPLES = st.lists(st.floats(0.1, 1e6), min_size=2, max_size=5)


def _results(**peers: Found) -> Results:
    return Results("a machine", "2026-11-29", 3, False, peers, NOT_MEASURED)


def test_every_row_that_is_shown_is_measured_and_the_other_way_round() -> None:
    assert {measured_by(row) for row in SHOWN} == set(ROWS)


@pytest.mark.parametrize("name", PEERS)
def test_what_a_peer_cannot_is_a_row_and_has_a_reason(name: str) -> None:
    peer = PEERS[name]
    assert set(peer.cannot) <= set(ROWS)
    assert all(peer.cannot.values())
    assert set(peer.only) <= set(ROWS)


@given(_SAMPLES, _SAMPLES, st.sampled_from(list(SHOWN)))
def test_ranges_that_overlap_are_a_tie_whatever_their_medians_are(
    ours: list[float], theirs: list[float], row: str
) -> None:
    apart = max(ours) < min(theirs) or max(theirs) < min(ours)
    assert compare(row, ours, theirs).tie is not apart


@given(_SAMPLES, _SAMPLES, st.sampled_from(list(SHOWN)))
def test_a_ratio_over_one_says_that_ours_is_better(ours: list[float], theirs: list[float], row: str) -> None:
    compared = compare(row, ours, theirs)
    if not compared.tie:
        more = min(ours) > max(theirs)
        assert (compared.ratio > 1) is (more if SHOWN[row].better == "more" else not more)


def test_one_sample_ties_with_what_is_within_a_tenth_of_it() -> None:
    assert compare("append", [100.0], [95.0]).tie
    assert not compare("append", [100.0], [80.0]).tie


def test_what_is_not_there_is_never_said_as_a_number() -> None:
    found = Found("A peer", "nothing", cannot={"append": "stores nothing"}, faults={"storm": "it fell over"})
    assert said(found, "append") == "cannot"
    assert said(found, "storm") == "failed"
    assert said(found, "crash") == "not measured"
    assert said(Found("Another", "nothing", missing="no such package"), "append") == "not measured"


def test_the_spread_stands_behind_the_figure() -> None:
    assert said(Found("A peer", "", samples={"append": [900.0, 1000.0, 1200.0]}), "append") == "1 k/s ±15%"


def test_a_peer_that_is_not_on_this_machine_is_named_and_the_others_are_measured() -> None:
    class Nowhere(PEERS["nats"]):  # type: ignore[misc]
        def version(self) -> str:
            raise Missing("nowhere-server is not on this machine (Debian: nowhere)")

    found = _begin(Nowhere(), None, list(ROWS))
    table = markdown(_results(nats=found, fabric=Found("Session Fabric", "on disk", samples={"append": [1000.0]})))
    assert "is not measured: nowhere-server is not on this machine (Debian: nowhere)" in table
    assert "| `fabric` |" in table
    assert "`nats`" not in table.splitlines()[0]
    assert all(name in table for name in NOT_MEASURED)


def test_results_are_what_they_were_after_a_file() -> None:
    results = _results(fabric=Found("Session Fabric", "on disk", samples={"append": [1.5]}, notes={"append": "a note"}))
    assert from_json(results.as_json()) == results


def test_the_tables_replace_what_was_written_before_and_nothing_else() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert put(put(page, "new"), "newer") == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="has no place for it"):
        put("a page", "new")


@pytest.mark.slow
def test_nats_servers_listener_is_measured_with_and_without_a_store(tmp_path: Path) -> None:
    kept: list[Any] = []
    rows = ["fanout-100", "append", "catchup", "storm"]
    results = measure(["nats", "jetstream"], rows, Plan(1, quick=True), {}, kept.append)
    core, stored = results.peers["nats"], results.peers["jetstream"]
    assert not core.faults
    assert not stored.faults
    assert set(core.samples) == {"fanout-100"}
    assert set(stored.samples) == {*rows, "catchup-again"}
    assert not stored.notes  # nothing lost, everybody back
    assert said(core, "append") == "cannot"
    assert len(kept) == 2
