"""What is waited for ends when its time is up: not before, and not much later."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.timetable import Timetable

SLOT_S = 0.02
times = st.floats(0, 20, allow_nan=False)


@given(
    st.lists(st.tuples(times, st.booleans()), max_size=20),
    st.lists(times, max_size=20).map(sorted),
)
def test_each_is_late_once_after_it_was_due_unless_it_was_struck_out(
    entered: list[tuple[float, bool]], looks: list[float]
) -> None:
    timetable: Timetable[int] = Timetable(SLOT_S)
    slots = [timetable.enter(number, due) for number, (due, _) in enumerate(entered)]
    for number, (_, struck) in enumerate(entered):
        if struck:
            timetable.strike(number, slots[number])
    late: dict[int, float] = {}
    for now in looks:
        for number in timetable.late(now):
            assert number not in late
            late[number] = now
    last = looks[-1] if looks else 0.0
    for number, (due, struck) in enumerate(entered):
        if struck:
            assert number not in late
        elif number in late:
            assert due <= late[number]
            assert not [now for now in looks if due + SLOT_S < now < late[number]], "it was late already"
        else:
            assert last <= due + SLOT_S
    assert len(timetable) == sum(not struck for _, struck in entered) - len(late)


def test_what_was_due_first_is_late_first() -> None:
    timetable: Timetable[str] = Timetable(SLOT_S)
    for name, due in (("c", 0.9), ("a", 0.1), ("b", 0.5)):
        timetable.enter(name, due)
    assert timetable.late(1.0) == ["a", "b", "c"]


def test_what_was_late_already_can_be_struck_out_without_harm() -> None:
    timetable: Timetable[str] = Timetable(SLOT_S)
    slot = timetable.enter("a", 0.1)
    assert timetable.late(1.0) == ["a"]
    timetable.strike("a", slot)
    assert timetable.late(2.0) == []
