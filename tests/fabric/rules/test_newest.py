"""The newest of what is read in order, back to where there are enough of them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric.rules.newest import Newest, maybe_cut
from session_fabric.rules.seals import SEAL_BYTES, Cipher
from session_fabric.words.wire import Record


def record(sequence: int, size: int = 0, head: bytes = b"") -> Record:
    return Record(1, sequence, 0, "sf.ev.0.t.s.-.w", head, b"x" * size)


def taken(sizes: list[int], limit: int, most_bytes: int | None) -> Newest:
    newest = Newest(limit, most_bytes)
    for sequence, size in enumerate(sizes):
        newest.take(record(sequence), size)
    return newest


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 25), st.none() | st.integers(1, 60))
@example([5, 5], 9, 5)
@example([0, 0, 9], 9, 9)
def test_the_last_are_kept_back_to_the_one_with_which_there_are_enough(
    sizes: list[int], limit: int, most_bytes: int | None
) -> None:
    newest = taken(sizes, limit, most_bytes)
    kept = sizes[len(sizes) - len(newest.records) :]
    assert [one.sequence for one in newest.records] == list(range(len(sizes)))[len(sizes) - len(kept) :]
    assert newest.bytes == sum(kept)
    assert len(kept) <= limit
    if most_bytes is not None:
        assert sum(kept[1:]) < most_bytes
        assert newest.left_bytes == most_bytes - sum(kept)
    assert newest.full == (len(kept) == limit or (most_bytes is not None and sum(kept) >= most_bytes))
    assert newest.full or kept == sizes


def test_a_page_is_looked_behind_where_it_may_have_been_cut() -> None:
    found = [record(n, 10) for n in range(3)]
    assert maybe_cut(found, 3, 1000)
    assert not maybe_cut(found, 4, 1000)
    assert maybe_cut(found, 4, 30)
    assert not maybe_cut([], 4, 30)
    claim = record(3, 2, b"NATS/1.0\r\nSf-Blob: 99 digest name\r\n\r\n")
    assert maybe_cut([claim], 4, 50)


def test_what_was_sealed_counts_as_it_is_stored() -> None:
    body = b"x" * 10
    sealed = len(Cipher(b"k" * 32).seal(body, b""))
    assert sealed == len(body) + SEAL_BYTES
    assert maybe_cut([record(1, len(body))], 4, sealed)
    assert not maybe_cut([record(1, len(body))], 4, sealed + 1)
