"""What may be appended to a durable stream, and what a writer is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.appends import Asked, Known, Producer, Standing, Stored, decide
from session_fabric.words.errors import (
    ContentMismatch,
    InvalidRequest,
    ProducerFenced,
    ProducerGap,
    SequenceRegressed,
    StreamClosed,
)
from session_fabric.words.positions import Offset

TEXT = "text/plain"
OPEN = Standing(7, Offset(1, 7))
SHUT = Standing(8, Offset(1, 7), closed=True, closer=Producer("p", 0, 3))


def _asked(body: bytes | None = b"x", **more: object) -> Asked:
    return Asked(body, TEXT, **more)  # type: ignore[arg-type]


def test_a_plain_append_is_stored() -> None:
    assert decide(_asked(), OPEN, None, TEXT) is None


def test_of_a_content_type_its_parameters_and_its_case_do_not_count() -> None:
    assert decide(Asked(b"x", "Text/PLAIN; charset=utf-8"), OPEN, None, TEXT) is None
    with pytest.raises(ContentMismatch):
        decide(Asked(b"x", "text/html"), OPEN, None, TEXT)


def test_nothing_is_appended_behind_the_end() -> None:
    with pytest.raises(StreamClosed) as caught:
        decide(_asked(), SHUT, None, TEXT)
    assert caught.value.facts["offset"] == str(SHUT.tail)


def test_the_end_is_looked_at_before_the_content_type() -> None:
    with pytest.raises(StreamClosed):
        decide(Asked(b"x", "text/html", close=True), SHUT, None, TEXT)


def test_closing_what_is_closed_is_no_error_unless_something_is_to_be_appended() -> None:
    assert decide(Asked(None, close=True), SHUT, None, TEXT) == Stored(None)
    with pytest.raises(StreamClosed):
        decide(_asked(close=True), SHUT, None, TEXT)


def test_who_has_closed_a_stream_may_say_so_again_and_nobody_else() -> None:
    known = Known(0, 3)
    again = _asked(producer=Producer("p", 0, 3), close=True)
    assert decide(again, SHUT, known, TEXT) == Stored(known)
    for other in (Producer("p", 0, 4), Producer("q", 0, 0)):
        with pytest.raises(StreamClosed):
            decide(_asked(producer=other, close=True), SHUT, known if other.id == "p" else None, TEXT)


def test_an_old_epoch_is_fenced_even_from_a_closed_stream() -> None:
    with pytest.raises(ProducerFenced) as caught:
        decide(_asked(producer=Producer("p", 1, 0)), SHUT, Known(2, 0), TEXT)
    assert caught.value.facts["epoch"] == 2


def test_a_new_epoch_begins_at_nought() -> None:
    assert decide(_asked(producer=Producer("p", 3, 0)), OPEN, Known(2, 9), TEXT) is None
    with pytest.raises(InvalidRequest):
        decide(_asked(producer=Producer("p", 3, 1)), OPEN, Known(2, 9), TEXT)


def test_sequences_are_compared_as_bytes() -> None:
    standing = Standing(7, Offset(1, 7), seq="2")
    with pytest.raises(SequenceRegressed):
        decide(_asked(seq="10"), standing, None, TEXT)
    assert decide(_asked(seq="20"), standing, None, TEXT) is None


@given(st.lists(st.integers(0, 6), max_size=40))
def test_whatever_order_a_producer_sends_in_each_append_is_stored_once_and_in_order(sent: list[int]) -> None:
    stored: list[int] = []
    known: Known | None = None
    for seq in sent:
        if seq > len(stored):
            with pytest.raises(ProducerGap) as caught:
                decide(_asked(producer=Producer("p", 0, seq)), OPEN, known, TEXT)
            assert caught.value.facts["expected"] == len(stored)
        elif decide(_asked(producer=Producer("p", 0, seq)), OPEN, known, TEXT) is None:
            stored.append(seq)
            known = Known(0, seq)
    assert stored == list(range(len(stored)))
