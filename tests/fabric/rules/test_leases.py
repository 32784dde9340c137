"""When a process is believed dead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.leases import BACK_WITHIN_S, Answer, judge, look_again_s

answers = st.sampled_from(["answered", "nobody", "silent"])


@given(st.booleans(), st.booleans(), st.floats(0, 100), st.booleans())
def test_who_answers_lives(leased: bool, departed: bool, nobody_for_s: float, sure: bool) -> None:
    assert judge("answered", leased=leased, departed=departed, nobody_for_s=nobody_for_s, sure=sure) == "lives"


@given(answers, st.booleans(), st.booleans(), st.floats(0, 100), st.booleans())
def test_nobody_is_dead_without_a_reason(
    answer: Answer, leased: bool, departed: bool, nobody_for_s: float, sure: bool
) -> None:
    verdict = judge(answer, leased=leased, departed=departed, nobody_for_s=nobody_for_s, sure=sure)
    gone = departed and answer == "nobody" and nobody_for_s >= BACK_WITHIN_S
    lapsed = not leased and sure and answer != "answered"
    assert (verdict == "dead") == (gone or lapsed)


@given(answers, st.booleans())
def test_while_every_lease_lapses_nobody_is_believed_dead_by_it(answer: Answer, leased: bool) -> None:
    assert judge(answer, leased=leased, departed=False, nobody_for_s=60, sure=False) != "dead"


@given(answers, st.booleans(), st.floats(0, 1))
def test_who_is_not_sure_looks_again_soon(answer: Answer, departed: bool, nobody_for_s: float) -> None:
    again_s = look_again_s(answer, departed=departed, nobody_for_s=nobody_for_s)
    assert 0 < again_s <= 0.25
    if departed and answer == "nobody" and nobody_for_s < BACK_WITHIN_S - 0.001:
        assert nobody_for_s + again_s <= BACK_WITHIN_S + 1e-9  # and not a moment after it is known
