"""The ring, and the hand-over from the log to the live line: no seam, whatever happens in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.positions import Offset
from session_fabric_gateway.ring import Join, Read, Ring, Wait, next_step

from tests.gateway.records import SEGMENT, record


def at(sequence: int) -> Offset:
    return Offset(SEGMENT, sequence)


def ring_of(*sequences: int, most: int = 100) -> Ring:
    ring = Ring(most_records=most, most_bytes=10**9)
    ring.reached(at(0))
    for sequence in sequences:
        ring.add([record(sequence)])
    return ring


def test_an_empty_ring_begins_where_its_first_mark_says() -> None:
    ring = Ring()
    ring.reached(at(7))
    assert (ring.base, ring.delivered) == (at(7), at(7))


def test_a_ring_whose_events_come_before_its_mark_begins_before_them() -> None:
    ring = Ring()
    ring.add([record(5), record(9)])
    ring.reached(at(9))
    assert (ring.base, ring.delivered) == (at(4), at(9))


def test_it_keeps_the_newest_and_says_where_they_begin() -> None:
    ring = ring_of(*range(1, 26), most=10)
    kept = [r.sequence for r in ring.after(ring.base)]
    assert kept == list(range(ring.base.sequence + 1, 26))
    assert 5 <= len(kept) <= 10


def test_it_is_bounded_by_bytes_too() -> None:
    ring = Ring(most_records=10**6, most_bytes=10_000)
    for sequence in range(1, 100):
        ring.add([record(sequence, payload=b"x" * 3000)])
        assert len(ring.after(ring.base)) <= 3


def test_one_event_larger_than_the_ring_is_not_kept() -> None:
    ring = Ring(most_records=10, most_bytes=1000)
    ring.add([record(1, payload=b"x" * 5000)])
    assert (ring.base, ring.delivered) == (at(1), at(1))


def test_it_covers_what_it_keeps_whole_and_nothing_else() -> None:
    ring = ring_of(*range(1, 26), most=10)
    assert not Ring().covers(at(0))
    assert ring.covers(ring.base)
    assert ring.covers(ring.delivered)
    assert not ring.covers(at(ring.base.sequence - 1))
    assert not ring.covers(at(ring.delivered.sequence + 1))
    assert not ring.covers(Offset(SEGMENT + 1, ring.delivered.sequence))


def test_a_rewind_forgets_what_comes_again() -> None:
    ring = ring_of(1, 2, 5, 6)
    ring.rewind(at(2))
    assert ring.delivered == at(2)
    ring.add([record(3), record(5), record(6)])
    assert [r.sequence for r in ring.after(at(2))] == [3, 5, 6]


def test_a_rewind_below_what_is_kept_moves_the_base() -> None:
    ring = ring_of(*range(1, 26), most=10)
    ring.rewind(at(3))
    assert (ring.base, ring.delivered) == (at(3), at(3))


def test_from_the_start_the_log_is_read() -> None:
    assert next_step("start", ring_of(1, 2)) == Read(at(2))


def test_a_position_in_the_ring_joins_with_what_is_behind_it() -> None:
    step = next_step(at(1), ring_of(1, 2, 3))
    assert isinstance(step, Join)
    assert [r.sequence for r in step.records] == [2, 3]


def test_a_reader_that_is_ahead_waits_and_in_the_end_is_rewound() -> None:
    ring = ring_of(1, 2)
    assert next_step(at(5), ring) == Wait()
    assert next_step(at(5), ring, patient=False) == Join(rewind=at(2))


class Reader:
    """Follows the steps as the shell does, over a log that goes on meanwhile."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.position: Offset | str = "start"
        self.live = False


@given(st.data())
def test_no_event_is_missed_or_repeated_however_reading_and_delivering_interleave(data: st.DataObject) -> None:
    log: list[int] = []
    ring = Ring(most_records=6, most_bytes=10**9)
    ring.reached(at(0))
    reader = Reader()
    waiting_read: Read | None = None
    sequence = 0
    for action in (
        data.draw(st.lists(st.sampled_from(["publish", "publish", "step", "lag"]), max_size=80)) + ["step"] * 6
    ):
        if action == "publish":
            sequence += data.draw(st.integers(1, 3))
            log.append(sequence)
            ring.add([record(sequence)])
            if reader.live:
                reader.got.append(sequence)
        elif action == "lag" and reader.live:
            reader.live, reader.position = False, ring.delivered
        elif action == "step" and not reader.live:
            if waiting_read is not None:  # the read comes back, some events later
                below = 0 if reader.position == "start" else reader.position.sequence  # type: ignore[union-attr]
                reader.got += [s for s in log if below < s <= waiting_read.upto.sequence]
                reader.position, waiting_read = waiting_read.upto, None
                continue
            match next_step(reader.position, ring):  # type: ignore[arg-type]
                case Read() as read:
                    waiting_read = read
                case Join(records, rewind):
                    assert rewind is None
                    reader.got += [r.sequence for r in records]
                    reader.live = True
    assert reader.live
    assert reader.got == log
