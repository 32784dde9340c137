"""Which stream keeps which sessions, over any number of moves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_fabric.rules.layout import (
    LEASE_S,
    MOVING_LEASE_S,
    Layout,
    Move,
    begun,
    even,
    forgotten,
    given_up,
    grow,
    in_phase,
    lodged,
    move_shards,
    own_streams,
    placed,
    settled,
)
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.subjects import SHARDS

ALL = list(range(SHARDS))


def carried_out(layout: Layout, moves: list[Move]) -> Layout:
    cutting = in_phase(begun(layout, moves), "copying", "cutting")
    there = placed(cutting, {m.target: 7 for m in moves}, 1000)
    return in_phase(there, "placed", "left")


def covers_all(layout: Layout) -> bool:
    tenants = {x.tenant for x in layout.lodgings}
    return all(sorted(s for x in layout.of(tenant) for s in x.shards) == ALL for tenant in tenants)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from([1, 2, 16, 256]), st.data())
def test_every_shard_has_one_stream_after_any_moves(streams: int, data: st.DataObject) -> None:
    layout = even(streams)
    for _ in range(data.draw(st.integers(0, 4))):
        tenant = data.draw(st.sampled_from([None, "acme"]))
        if tenant is not None and not layout.of(tenant):
            used = data.draw(st.sets(st.integers(0, 255), max_size=5))
            moves = own_streams(layout, tenant, used, None)
        else:
            home = data.draw(st.sampled_from(layout.of(tenant)))
            if len(home.shards) == 1:
                continue
            some = data.draw(st.sets(st.sampled_from(home.shards), min_size=1, max_size=len(home.shards) - 1))
            moves = [move_shards(layout, sorted(some), None, tenant)]
        before = layout
        layout = carried_out(layout, moves)
        assert covers_all(layout)
        for move in moves:
            for shard in (move.shards[0], move.shards[-1]):
                whose = move.tenant or "somebody"
                assert lodged(before, whose, shard).stream == move.source
                at = lodged(layout, whose, shard)
                assert (at.stream, at.moves[0].source) == (move.target, move.source)


@given(st.sampled_from([1, 2, 4, 16]), st.sampled_from([1, 2, 4, 16, 64, 256]))
def test_streams_are_divided_until_there_are_as_many_and_never_put_together(first: int, then: int) -> None:
    layout = even(first)
    if then < first:
        with pytest.raises(InvalidRequest, match="put together"):
            grow(layout, then)
        return
    moves = grow(layout, then)
    after = carried_out(layout, moves)
    assert len(after.of(None)) == then
    assert len({len(x.shards) for x in after.of(None)}) == 1  # powers of two divide evenly
    assert {m.source for m in moves} <= {x.stream for x in layout.lodgings}


def test_until_it_is_placed_a_session_stays_where_it_was() -> None:
    layout = begun(even(2), [move_shards(even(2), [5], None)])
    assert (lodged(layout, "acme", 5).stream, lodged(layout, "acme", 6).leaving) == ("SESSIONS-00", None)
    leaving = lodged(layout, "acme", 5).leaving
    assert leaving is not None
    assert leaving.target == "SESSIONS-02"
    cutting = in_phase(layout, "copying", "cutting")
    assert lodged(cutting, "acme", 5).stream == "SESSIONS-00"
    assert given_up(cutting) == even(2)
    assert lodged(placed(cutting, {"SESSIONS-02": 9}, 1), "acme", 5).stream == "SESSIONS-02"


def test_what_one_knows_counts_for_less_while_something_moves() -> None:
    layout = begun(even(2), [move_shards(even(2), [5], None)])
    assert (even(2).counts_s, layout.counts_s) == (LEASE_S, MOVING_LEASE_S)
    assert carried_out(even(2), [move_shards(even(2), [5], None)]).counts_s == LEASE_S


def test_a_tenant_with_sessions_gets_a_stream_for_each_that_has_them() -> None:
    moves = own_streams(even(4), "acme", {0, 1, 200}, None)
    assert {(m.source, m.target) for m in moves if not m.empty} == {
        ("SESSIONS-00", "SESSIONS-00-acme"),
        ("SESSIONS-03", "SESSIONS-01-acme"),
    }
    with pytest.raises(InvalidRequest, match="2 streams, and 1 were asked for"):
        own_streams(even(4), "acme", {0, 1, 200}, 1)
    with pytest.raises(InvalidRequest, match="257"):
        own_streams(even(4), "acme", set(), 257)


def test_a_tenant_without_sessions_gets_as_many_as_are_asked_for() -> None:
    layout = carried_out(even(16), own_streams(even(16), "acme", set(), 4))
    assert [len(x.shards) for x in layout.of("acme")] == [64] * 4
    assert layout.of(None) == even(16).of(None)
    assert lodged(layout, "acme", 0).own
    assert not lodged(layout, "other", 0).own


def test_an_event_that_came_to_a_stream_after_its_session_had_left_is_known() -> None:
    layout = carried_out(even(2), [move_shards(even(2), [5], None)])
    at = lodged(layout, "acme", 5)
    assert at.streams == ["SESSIONS-02", "SESSIONS-00"]
    assert not at.too_late("SESSIONS-00", 7)
    assert at.too_late("SESSIONS-00", 8)
    assert not at.too_late("SESSIONS-02", 8)
    assert not at.too_late("SESSIONS-01", 8)
    done = settled(layout, layout.moves)
    assert lodged(done, "acme", 5).streams == ["SESSIONS-02"]
    assert done.moves
    assert not forgotten(done, 3000, 1000).moves
    assert forgotten(done, 1500, 1000) == done


@pytest.mark.parametrize(
    ("shards", "to", "named"),
    [
        ([], None, "No bucket"),
        ([256], None, "no bucket 256"),
        ([0, 255], None, "SESSIONS-00, SESSIONS-01"),
        (list(range(128)), None, "no other buckets"),
        ([1], "SESSIONS-01", "is there already"),
        ([1], "mine", "not a name"),
        ([1], "SESSIONS-a.b", "not a name"),
    ],
)
def test_a_move_that_cannot_be_is_refused_and_says_why(shards: list[int], to: str | None, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        move_shards(even(2), shards, to)


def test_nothing_is_begun_while_a_move_is_under_way() -> None:
    layout = begun(even(2), [move_shards(even(2), [5], None)])
    with pytest.raises(InvalidRequest, match="being divided"):
        begun(layout, [move_shards(even(2), [6], None)])


def test_no_stream_is_divided_into_more_than_there_are_shards() -> None:
    with pytest.raises(InvalidRequest, match="300"):
        grow(even(1), 300)
    assert grow(even(256), 256) == []
